"""Flags of `lmstream verify`: places, ranges and configurations, and what does not fit."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lmstream.aws import credentials
from lmstream.cli.flags import EngineFlags, RowFlags
from lmstream.config import load
from lmstream.errors import ConfigError, LmstreamError, refuse
from lmstream.observability.endpoints import parsed
from lmstream.storage.objects import Place, Prefix
from lmstream.verification import Judged

NEEDS: Final = "verify needs --expected LOG, or --topic TOPIC with --bootstrap"
_MOST_SETTLE: Final = 86_400
"""Seconds: Firehose tries to deliver for a day, docs.aws.amazon.com/firehose/latest/dev/retry.html."""
OFF: Final = "off"
"""--address of a service without endpoints."""
_LEAST_WATCH: Final = 1.0
_RECORDS: Final = re.compile(r"([^/=]+)(?:/(\d{1,9}))?(?:=(\d{0,18})\.\.(\d{0,18}))?")
"""TOPIC/PARTITION=FROM..TO, of which TOPIC alone must be there."""


def unreachable(places: Mapping[str, Place]) -> list[LmstreamError]:
    """Why places cannot be reached, as far as it is known without asking them."""
    wrong: list[LmstreamError] = []
    for flag, there in places.items():
        try:
            if isinstance(there, Prefix):
                credentials.need(f"{flag} {there.name}")
        except ConfigError as e:
            wrong += e.errors
    return wrong


def refuse_missing(places: Mapping[str, Place]) -> None:
    """Raise ConfigError for folders that are not there."""
    gone = [f"{flag} {there.name}: no such folder" for flag, there in places.items() if not there.exists()]
    refuse([ConfigError("config.invalid", what) for what in gone])


def unfit(
    expected: Sequence[Path], topic: Sequence[str], ranged: Sequence[str], settle: float | None, html: Path | None
) -> list[LmstreamError]:
    """What does not fit together among the flags, before anything long begins."""
    wrong: list[LmstreamError] = []

    def say(what: str, reason: str = "config.invalid") -> None:
        wrong.append(ConfigError(reason, what))

    if expected and topic:
        say(f"{NEEDS}, and not both")
    if expected and ranged:
        say("--group, --since, --from and --to are for --topic: a log is judged whole")
    for path in expected:
        if path.is_dir() or not os.access(path, os.R_OK):
            what = "is a folder" if path.is_dir() else "cannot be read" if path.exists() else "no such file"
            say(f"--expected {path}: {what}", "source.file")
    if expected and all(path.is_file() and not path.stat().st_size for path in expected):
        say(f"--expected {expected[0]}: it is empty, so nothing can be verified by it", "source.file")
    if settle is not None and not 0 <= settle <= _MOST_SETTLE:
        say(f"--settle {settle:g}: expected seconds, {_MOST_SETTLE:,} at most")
    if html is not None:
        try:
            html.open("a").close()
        except OSError as e:
            say(f"--html {html}: {e.strerror}")
    return wrong


def configurations(texts: Sequence[str], engine: RowFlags) -> tuple[EngineFlags, list[Judged]]:
    """The flags with the file of today, and the older settings with their records."""
    today = [text for text in texts if "@" not in text]
    if len(today) > 1:
        what = f"--config {today[1]}: say which records it is for, as in {today[1]}@TOPIC/0=..1200"
        raise ConfigError("config.invalid", what)
    others = []
    for text in texts:
        if "@" in text:
            file, _, records = text.rpartition("@")
            found = _RECORDS.fullmatch(records)
            if found is None:
                raise ConfigError("config.invalid", f"--config {text}: expected FILE@TOPIC/PARTITION=FROM..TO")
            topic, partition, start, stop = found.groups()
            others.append(
                Judged(
                    settings=load(Path(file), env={}).engine,
                    topic=topic,
                    partition=None if partition is None else int(partition),
                    start=int(start or 0),
                    stop=int(stop) if stop else None,
                )
            )
    return EngineFlags(config=Path(today[0]) if today else None, **vars(engine)), others


def _offsets(flag: str, texts: Sequence[str], topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """PARTITION=OFFSET texts, with TOPIC/ before where there are several topics, as a mapping."""
    found: dict[tuple[str, int], int] = {}
    wrong: list[LmstreamError] = []
    for text in texts:
        where, equals, offset = text.partition("=")
        topic, slash, partition = where.rpartition("/")
        if not slash and len(topics) == 1:
            topic = topics[0]
        if not (equals and partition.isdecimal() and offset.isdecimal()) or topic not in topics:
            form = (
                "PARTITION=OFFSET, as in 0=1200"
                if len(topics) == 1
                else f"TOPIC/PARTITION=OFFSET, as in {topics[0]}/0=1200"
            )
            wrong.append(ConfigError("config.invalid", f"{flag} {text}: expected {form}"))
            continue
        found[topic, int(partition)] = int(offset)
    refuse(wrong)
    return found


def ranges(
    texts: Mapping[str, Sequence[str]], topics: Sequence[str]
) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
    """Where --from and --to say that partitions begin and end. Raises ConfigError for all that is wrong in both."""
    found: list[dict[tuple[str, int], int]] = []
    wrong: list[LmstreamError] = []
    for flag, some in texts.items():
        try:
            found.append(_offsets(flag, some, topics))
        except ConfigError as e:
            wrong += e.errors
    refuse(wrong)
    return found[0], found[1]


def unservable(every: float, address: str | None) -> list[LmstreamError]:
    """What is wrong with the numbers of --watch."""
    wrong: list[LmstreamError] = []
    if every < _LEAST_WATCH:
        what = f"--watch {every:g}: expected seconds, {_LEAST_WATCH:g} or more"
        wrong.append(ConfigError("config.invalid", what))
    if address not in {None, OFF}:
        try:
            parsed(str(address), "--address")
        except ConfigError as e:
            wrong += e.errors
    return wrong


def unwatchable(
    expected: Sequence[Path],
    config: Sequence[str],
    to: Sequence[str],
    since: str | None,
    *,
    no_wait: bool,
    repair: bool,
) -> list[LmstreamError]:
    """What does not go with --watch."""
    given: dict[str, object] = {"--expected": expected, "--to": to, "--since": since}
    given |= {"--config FILE@TOPIC": [each for each in config if "@" in each], "--no-wait": no_wait, "--repair": repair}
    if wrong := [flag for flag, value in given.items() if value]:
        what = f"--watch proves what the group commits, from --from on: leave out {', '.join(wrong)}"
        return [ConfigError("config.invalid", what)]
    return []
