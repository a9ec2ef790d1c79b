"""Flags of `lmstream verify`: places, ranges and configurations, and what does not fit."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lmstream.aws import credentials
from lmstream.cli.flags import EngineFlags, RowFlags
from lmstream.config import load
from lmstream.errors import ConfigError, LmstreamError
from lmstream.storage.objects import Place, Prefix
from lmstream.verification import Judged

NEEDS: Final = "verify needs --expected LOG, or --topic TOPIC with --bootstrap"
_MOST_SETTLE: Final = 86_400
"""Seconds: Firehose tries to deliver for a day, docs.aws.amazon.com/firehose/latest/dev/retry.html."""
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
    """Raise ConfigError for a folder that is not there."""
    for flag, there in places.items():
        if not there.exists():
            raise ConfigError("config.invalid", f"{flag} {there.name}: no such folder")


def fit(
    expected: Sequence[Path], topic: Sequence[str], ranged: Sequence[str], settle: float | None, html: Path | None
) -> None:
    """Raise ConfigError for flags that do not fit, before anything long begins."""
    if expected and topic:
        raise ConfigError("config.invalid", f"{NEEDS}, and not both")
    if expected and ranged:
        raise ConfigError("config.invalid", "--group, --since, --from and --to are for --topic: a log is judged whole")
    for path in expected:
        if path.is_dir() or not os.access(path, os.R_OK):
            what = "is a folder" if path.is_dir() else "cannot be read" if path.exists() else "no such file"
            raise ConfigError("source.file", f"--expected {path}: {what}")
    if expected and all(path.is_file() and not path.stat().st_size for path in expected):
        raise ConfigError("source.file", f"--expected {expected[0]}: it is empty, so nothing can be verified by it")
    if settle is not None and not 0 <= settle <= _MOST_SETTLE:
        raise ConfigError("config.invalid", f"--settle {settle:g}: expected seconds, {_MOST_SETTLE:,} at most")
    if html is not None:
        try:
            html.open("a").close()
        except OSError as e:
            raise ConfigError("config.invalid", f"--html {html}: {e.strerror}") from e


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


def offsets(flag: str, texts: Sequence[str], topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """PARTITION=OFFSET texts, with TOPIC/ before where there are several topics, as a mapping."""
    found: dict[tuple[str, int], int] = {}
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
            raise ConfigError("config.invalid", f"{flag} {text}: expected {form}")
        found[topic, int(partition)] = int(offset)
    return found


def refuse_unwatchable(
    topic: Sequence[str],
    expected: Sequence[Path],
    others: Sequence[Judged],
    to: Sequence[str],
    since: str | None,
    *,
    no_wait: bool,
    repair: bool,
) -> None:
    """Raise ConfigError for what does not go with --watch."""
    given: dict[str, object] = {"--expected": expected, "--to": to, "--since": since, "--config FILE@TOPIC": others}
    given |= {"--no-wait": no_wait, "--repair": repair}
    if wrong := [flag for flag, value in given.items() if value]:
        what = f"--watch proves what the group commits, from --from on: leave out {', '.join(wrong)}"
        raise ConfigError("config.invalid", what)
    if not topic:
        raise ConfigError("config.invalid", "--watch reads the topic again: give --topic")
