"""`lmstream verify`: what was published, or what the topic holds, against what landed."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from lmstream import verification as library
from lmstream.aws import credentials
from lmstream.cli import terminal
from lmstream.cli.flags import (
    NO_BROKER,
    NO_ROWS,
    NO_S3,
    BrokerFlags,
    EngineFlags,
    Json,
    RowFlags,
    S3Flags,
    Seconds,
    given,
)
from lmstream.cli.settling import interval, wait
from lmstream.cli.tables import Wide
from lmstream.cli.verdict import show
from lmstream.cli.verify_lake import claims_of, lake_report
from lmstream.config import Config, load
from lmstream.config.validation import READING
from lmstream.dead_letters.filters import moment
from lmstream.errors import ConfigError, LmstreamError, refuse
from lmstream.storage.objects import Place, Prefix, place
from lmstream.verification import Expected, Judged, Report, Topics, log_entries
from lmstream.verification.report_html import page

NEEDS: Final = "verify needs --expected LOG, or --topic TOPIC with --bootstrap"
NOT_VERIFIED = 3
NOT_SETTLED = 5
_MOST_SETTLE: Final = 86_400
"""Seconds: Firehose tries to deliver for a day, docs.aws.amazon.com/firehose/latest/dev/retry.html."""
_RECORDS: Final = re.compile(r"([^/=]+)(?:/(\d{1,9}))?(?:=(\d{0,18})\.\.(\d{0,18}))?")
"""TOPIC/PARTITION=FROM..TO, of which TOPIC alone must be there."""


def _whole(_: object, value: str, **_more: object) -> list[str]:
    """The variable is one path, whatever is in it."""
    return [value]


def verify(
    *,
    landed: str,
    expected: tuple[Path, ...] = (),
    topic: tuple[str, ...] = (),
    group: str | None = None,
    claims: str | None = None,
    since: str | None = None,
    from_: Annotated[tuple[str, ...], Parameter(name="--from")] = (),
    to: tuple[str, ...] = (),
    dead_letters: str | None = None,
    errors: str | None = None,
    settle: Seconds | None = None,
    no_wait: Annotated[bool, Parameter(negative="")] = False,
    wide: Wide = False,
    as_json: Json = False,
    html: Path | None = None,
    config: Annotated[tuple[str, ...], Parameter(env_var="LMSTREAM_CONFIG", env_var_split=_whole)] = (),
    s3: S3Flags = NO_S3,
    broker: BrokerFlags = NO_BROKER,
    engine: RowFlags = NO_ROWS,
) -> int:
    """Prove that every expected row landed, byte for byte and under its own path. Exit 3 when rows are lost, changed,
    misplaced or unexpected, 5 when rows are missing that Firehose may still buffer, or that a lake is still landing.

    Expected rows come from the log of `publish --verifiable`, or from the topic, read again with the same engine.
    A lake (sink.type s3) is proved by its claims: alone, or with --topic against the topic too, by the settings that
    each claim names. Duplicates do not fail it, except in a lake: the view `rows` of `query` removes them.

    Parameters
    ----------
    landed
        Folder of landed rows, or s3://BUCKET/PREFIX.
    expected
        Log of `publish --verifiable`; may be repeated.
    topic
        Topic to read again instead of a log; needs --bootstrap and the settings of the run. May be repeated: name all
        topics whose rows land there.
    group
        Consumer group of the run: what it has committed must be there. Default: source.group.
    claims
        Where the claims of a lake lie: a folder, or s3://BUCKET/PREFIX. Default: sink.claims_prefix, else _lmstream
        below LANDED or at the root of its bucket.
    since
        Judge records from this time on: 2024-05-09T14:00Z, or 2h for two hours ago. Of a lake without --topic: windows
        that were claimed since then.
    from_
        First offset of a partition, as PARTITION=OFFSET or TOPIC/PARTITION=OFFSET; may be repeated. With ranges, only
        the partitions named are judged. Default: the earliest.
    to
        Offset to stop before, in the same form. Default: what the group has committed.
    dead_letters
        Folder of dead letters, or s3://BUCKET/PREFIX. Without it, missing letters are not checked.
    errors
        Error prefix of Firehose; LANDED/errors if that exists.
    settle
        Seconds after which a committed row that is missing is lost. Default: the buffer interval of the stream and a
        minute; 0 for a folder and for a lake, whose newest windows may be under way.
    no_wait
        Do not wait for that: missing rows are buffered, and the exit code is 5.
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print the report as JSON.
    html
        Also write the report to this file, as one HTML page.
    config
        TOML file with settings; flags win over LMSTREAM_* variables, and they win over the file. After a change of
        settings, give the older file too with the records that were read with it, first match first:
        OLD.toml@TOPIC/PARTITION=FROM..TO, without TO itself; FROM, TO, or =FROM..TO and /PARTITION may be left out.
    """
    ranged = [*from_, *to, *(each for each in (group, since) if each)]
    _fit(expected, topic, ranged, settle, html)
    if not topic and (from_ or to or group):
        raise ConfigError("config.invalid", "--group, --from and --to are for --topic; a lake takes --since as well")
    named = {"--landed": landed, "--claims": claims, "--dead-letters": dead_letters, "--errors": errors}
    places = {flag: place(text, s3.access) for flag, text in named.items() if text is not None}
    wrong = _unreachable(places)
    try:
        flags, others = _configurations(config, engine)
        loaded = _loaded(flags, broker, topic, group)
    except ConfigError as e:
        refuse([*wrong, *e.errors])
        raise
    refuse(wrong)
    _refuse_missing(places)
    rows, letters, failed = places["--landed"], places.get("--dead-letters"), places.get("--errors")
    lake = None if expected else claims_of(rows, places.get("--claims"), loaded)
    if not topic and others:
        raise ConfigError("config.invalid", "--config FILE@TOPIC needs --topic: a log says itself what must land")
    if lake is not None:
        topics = _topics(loaded, topic, (), from_, to, since, committed=False) if topic else None
        report = lake_report(
            rows,
            lake,
            loaded,
            topics,
            letters,
            failed,
            since=None if topic else moment("--since", since),
            settle=settle or 0.0,
            no_wait=no_wait,
            region=s3.s3_region,
        )
    elif not topic and not expected:
        raise ConfigError("config.invalid", f"{NEEDS}; no claims of a lake lie at {rows.name} (--claims)")
    else:
        entries: Topics | Iterable[Expected]
        if topic:
            entries = _topics(loaded, topic, others, from_, to, since)
        else:
            entries = chain.from_iterable(log_entries(path, terminal.say) for path in expected)
        if settle is None:
            settle = interval(loaded, landed) if topic else 0.0
        report = library.verify(
            entries,
            rows,
            letters,
            failed,
            source_ids=sorted({loaded.engine.source_id, *(each.settings.source_id for each in others)}),
            settle=settle,
            wait=None if no_wait else wait,
            say=terminal.say,
            watch=partial(terminal.counted, "objects read"),
        )
    spans = [*(f"--from {text}" for text in from_), *(f"--to {text}" for text in to)]
    spans += [f"--since {since}"] if since else []
    what = {
        "expected": " ".join(["topic", *topic, *spans]) if topic else ", ".join(map(str, expected)),
        "claims": lake.name if lake is not None else "",
        "landed": rows.name,
        "dead letters": letters.name if letters is not None else "",
    }
    _tell(report, {name: text for name, text in what.items() if text}, html, wide=wide, as_json=as_json)
    return NOT_VERIFIED if not report.ok else 0 if report.settled else NOT_SETTLED


def _tell(report: Report, what: dict[str, str], html: Path | None, *, wide: bool, as_json: bool) -> None:
    """Print the report, and write the page; `what` says what was compared."""
    with terminal.read_or_not():
        if as_json:
            terminal.print_json(msgspec.to_builtins(report), indent=None)
        else:
            show(report, wide=wide)
    if html is not None:
        try:
            html.write_text(page(report, what), encoding="utf-8")
            terminal.say(f"the report is in {html}")
        except OSError as e:
            # The verdict is said, and its exit code is worth more than the page.
            terminal.insist(f"--html {html}: {e.strerror}: the page was not written")


def _unreachable(places: Mapping[str, Place]) -> list[LmstreamError]:
    """Why places cannot be reached, as far as it is known without asking them."""
    wrong: list[LmstreamError] = []
    for flag, there in places.items():
        try:
            if isinstance(there, Prefix):
                credentials.need(f"{flag} {there.name}")
        except ConfigError as e:
            wrong += e.errors
    return wrong


def _refuse_missing(places: Mapping[str, Place]) -> None:
    for flag, there in places.items():
        if not there.exists():
            raise ConfigError("config.invalid", f"{flag} {there.name}: no such folder")


def _loaded(flags: EngineFlags, broker: BrokerFlags, topics: Sequence[str], group: str | None) -> Config:
    if not topics:
        return flags.load()
    from lmstream.cli.kafka import client_overrides

    return flags.load(client_overrides(broker, *topics) | given({"source.group": group}), READING)


def _topics(
    loaded: Config,
    topics: Sequence[str],
    others: Sequence[Judged],
    from_: Sequence[str],
    to: Sequence[str],
    since: str | None,
    *,
    committed: bool = True,
) -> Topics:
    from lmstream.cli.kafka import settings_of

    earliest = moment("--since", since)
    return Topics(
        settings_of(loaded),
        loaded.engine,
        others,
        start=offsets("--from", from_, topics),
        stop=offsets("--to", to, topics),
        since=None if earliest is None else int(earliest.timestamp() * 1000),
        counted=partial(terminal.counted, "records read"),
        committed=committed,
    )


def _fit(
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


def _configurations(texts: Sequence[str], engine: RowFlags) -> tuple[EngineFlags, list[Judged]]:
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
