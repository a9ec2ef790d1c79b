"""`lmstream verify`: what was published, or what the topic holds, against what landed."""

import re
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from lmstream import verification as library
from lmstream.cli import terminal
from lmstream.cli.flags import NO_BROKER, NO_ROWS, NO_S3, BrokerFlags, EngineFlags, Json, RowFlags, S3Flags
from lmstream.config import load
from lmstream.errors import REASONS, ConfigError, more
from lmstream.storage.objects import Place, S3Access, place
from lmstream.verification import Judged, Report, log_entries, topic_entries
from lmstream.verification.report_html import page

NOT_VERIFIED = 3
_RECORDS: Final = re.compile(r"([^/=]+)(?:/(\d{1,9}))?(?:=(\d{0,18})\.\.(\d{0,18}))?")
"""TOPIC/PARTITION=FROM..TO, of which TOPIC alone must be there."""


def _whole(_: object, value: str, **_more: object) -> list[str]:
    """The variable is one path, whatever is in it."""
    return [value]


def verify(
    *,
    landed: str,
    expected: tuple[Path, ...] = (),
    topic: str | None = None,
    from_: Annotated[tuple[str, ...], Parameter(name="--from")] = (),
    to: tuple[str, ...] = (),
    dead_letters: str | None = None,
    errors: str | None = None,
    as_json: Json = False,
    html: Path | None = None,
    config: Annotated[tuple[str, ...], Parameter(env_var="LMSTREAM_CONFIG", env_var_split=_whole)] = (),
    s3: S3Flags = NO_S3,
    broker: BrokerFlags = NO_BROKER,
    engine: RowFlags = NO_ROWS,
) -> int:
    """Prove that every expected row landed, byte for byte and under its own path. Exit 3 when rows are lost, changed,
    misplaced or unexpected.

    Expected is the log that `publish --verifiable` wrote, or the topic itself, read again with the same engine.
    Duplicates are no failure: the view `rows` of `query` and the SQL of `schema` leave them out.

    Parameters
    ----------
    landed
        Folder of landed rows, or s3://BUCKET/PREFIX.
    expected
        Log of `publish --verifiable`; may be repeated.
    topic
        Topic to read again instead of a log; needs --bootstrap and the run's own settings.
    from_
        First offset of a partition, as PARTITION=OFFSET; may be repeated. Default: the earliest.
    to
        Offset to stop before, as PARTITION=OFFSET; may be repeated. Default: the end at the time of the call.
    dead_letters
        Folder of dead letters, or s3://BUCKET/PREFIX. Without it, missing letters are not judged.
    errors
        Error prefix of Firehose; LANDED/errors when that exists.
    as_json
        Print the report as JSON.
    html
        Write the verdict here too, as one page.
    config
        TOML file with settings; flags win over LMSTREAM_* variables, and they win over the file. After a change of
        settings, give the older file too with the records that were read with it, first match first:
        OLD.toml@TOPIC/PARTITION=FROM..TO, without TO itself; FROM, TO, or =FROM..TO and /PARTITION may be left out.
    """
    if bool(expected) == bool(topic):
        raise ConfigError("config.invalid", "verify needs --expected LOG, or --topic TOPIC with --bootstrap")
    rows, letters, failed = (
        _place("--landed", landed, s3),
        _place("--dead-letters", dead_letters, s3),
        _place("--errors", errors, s3),
    )
    assert rows is not None  # noqa: S101 - for the type checker
    flags, others = _configurations(config, engine)
    if others and not topic:
        raise ConfigError("config.invalid", "--config FILE@TOPIC needs --topic: a log says itself what must land")
    if topic:
        from lmstream.cli.kafka import client_overrides, settings_of
        from lmstream.kafka.range_reader import Span

        loaded = flags.load(client_overrides(broker, topic))
        span = Span(offsets("--from", from_), offsets("--to", to))
        entries = terminal.counted("records read", topic_entries(settings_of(loaded), loaded.engine, span, others))
    else:
        loaded = flags.load()
        entries = chain.from_iterable(log_entries(path, terminal.say) for path in expected)
    report = library.verify(
        entries,
        rows,
        letters,
        failed,
        source_ids=sorted({loaded.engine.source_id, *(each.settings.source_id for each in others)}),
        ranged=bool(from_ or to),
        say=terminal.say,
        watch=partial(terminal.counted, "objects read"),
    )
    if html is not None:
        spans = " ".join([*(f"--from {text}" for text in from_), *(f"--to {text}" for text in to)])
        what = {
            "expected": f"topic {topic} {spans}".strip() if topic else ", ".join(map(str, expected)),
            "landed": rows.name,
            "dead letters": letters.name if letters is not None else "",
        }
        try:
            html.write_text(page(report, {name: text for name, text in what.items() if text}), encoding="utf-8")
        except OSError as e:
            raise ConfigError("config.invalid", f"--html {html}: {e.strerror}") from e
        terminal.say(f"the verdict is in {html}")
    with terminal.read_or_not():
        if as_json:
            terminal.print_json(msgspec.to_builtins(report))
        else:
            show(report)
    return 0 if report.ok else NOT_VERIFIED


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
    made = {name: getattr(engine, name) for name in ("org", "source_id", "input_format")}
    return EngineFlags(config=Path(today[0]) if today else None, **made), others


def _place(flag: str, text: str | None, s3: S3Access) -> Place | None:
    found = None if text is None else place(text, s3)
    if found is not None and not found.exists():
        raise ConfigError("config.invalid", f"{flag} {text}: no such folder")
    return found


def show(report: Report) -> None:
    """Print the report for people: a line a partition, the verdict, the first lost rows."""
    heads = (
        "partition",
        "bundles",
        "expected",
        "landed",
        "lost",
        "changed",
        "misplaced",
        "duplicate",
        "phantom",
        "dead-lettered",
        "error prefix",
    )
    fields: tuple[str, ...] = ("bundles", "expected", "landed", "lost", "changed", "misplaced", "duplicate", "phantom")
    fields += ("dead_lettered", "in_error_prefix")
    lines: list[tuple[str, Any]] = [*sorted(report.partitions.items()), ("total", report.total)]
    terminal.table(heads, [(name, *(getattr(tally, f) for f in fields)) for name, tally in lines])
    t = report.total
    for kind, names, count in (
        ("lost", report.lost, t.lost),
        ("changed", report.changed, t.changed),
        ("misplaced", report.misplaced, t.misplaced),
        ("phantom", report.phantom, t.phantom),
        ("no dead letter for", report.letters_missing, t.letters_missing),
    ):
        for name in names:
            print(f"{kind}: {terminal.clean(name)}")
        if count > len(names) > 0:
            print(f"{kind}: and {count - len(names):,} more")
    print(report.verdict)
    if not report.ok:
        terminal.say(more(REASONS["verify.failed"].code))
    if t.in_error_prefix:
        terminal.say(
            f"{t.in_error_prefix:,} rows are in the error prefix and did not land: mend the cause, send them again"
        )
    if report.ids_only:
        terminal.say(
            "the log has no digests for some bundles: their rows were judged by ids alone. publish --verifiable writes"
            " digests when it has the run's own settings (--config, --org)"
        )
    if t.older_contract:
        terminal.say(f"{t.older_contract:,} rows are as an older row contract writes them: right, and no reason to act")
    if not report.letters_checked:
        terminal.say("dead letters were not looked at; give --dead-letters to judge bad records and points too")


def offsets(flag: str, texts: Sequence[str]) -> dict[int, int]:
    """PARTITION=OFFSET texts as a mapping."""
    found: dict[int, int] = {}
    for text in texts:
        partition, equals, offset = text.partition("=")
        if not (equals and partition.isdecimal() and offset.isdecimal()):
            raise ConfigError("config.invalid", f"{flag} {text}: expected PARTITION=OFFSET, as in 0=1200")
        found[int(partition)] = int(offset)
    return found
