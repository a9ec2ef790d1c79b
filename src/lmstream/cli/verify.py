"""`lmstream verify`: what was published, or what the topic holds, against what landed."""

import asyncio
import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from lmstream.bounded import LETTER_LINE
from lmstream.cli import terminal
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, BrokerFlags, EngineFlags
from lmstream.config import Config
from lmstream.engine import Engine, bundle_id
from lmstream.errors import REASONS, ConfigError, DecodeError, SourceError, more
from lmstream.model import DeadLetter, Record
from lmstream.storage.line_files import lines_of
from lmstream.storage.objects import NO_S3, Place, S3Access, place
from lmstream.verification.checker import Checker, Expected, Report, row_id
from lmstream.verification.report_html import page

if TYPE_CHECKING:
    from lmstream.cli.kafka import Span

NOT_VERIFIED = 3


def verify(
    *,
    landed: str,
    expected: Annotated[tuple[Path, ...], Parameter(consume_multiple=False)] = (),
    topic: str | None = None,
    from_: Annotated[tuple[str, ...], Parameter(name="--from", consume_multiple=False)] = (),
    to: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = (),
    dead_letters: str | None = None,
    errors: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    html: Path | None = None,
    s3: S3Access = NO_S3,
    broker: BrokerFlags = NO_BROKER,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Prove that every expected row landed. Exit 3 when rows are lost or come from nowhere.

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
    """
    if bool(expected) == bool(topic):
        raise ConfigError("config.invalid", "verify needs --expected LOG, or --topic TOPIC with --bootstrap")
    places: dict[str, Place | None] = {}
    for name, text in {"--landed": landed, "--dead-letters": dead_letters, "--errors": errors}.items():
        places[name] = found = None if text is None else place(text, s3)
        if found is not None and not found.exists():
            raise ConfigError("config.invalid", f"{name} {text}: no such folder")
    rows, letters, failed = places.values()
    assert rows is not None  # noqa: S101 - for the type checker
    checker = Checker()
    if topic:
        from lmstream.cli.kafka import Span, client_overrides

        config = engine.load(client_overrides(broker, topic))
        asyncio.run(_expect_topic(checker, config, Span(offsets("--from", from_), offsets("--to", to))))
    else:
        config = engine.load()
        for path in expected:
            for entry in log_entries(path):
                checker.expect(entry)
    settings = config.engine
    report = check(checker, rows, letters, failed, settings.source_id, ranged=bool(from_ or to))
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


async def _expect_topic(checker: Checker, config: Config, span: "Span") -> None:
    from lmstream.cli.kafka import read_topic, settings_of

    engine = Engine(config.engine)
    with terminal.Progress("records read") as progress:
        async for record in read_topic(settings_of(config), span):
            checker.expect(expectation(engine, record, config.engine.source_id))
            progress.advance()


def check(
    checker: Checker,
    landed_at: Place | Path,
    letters_at: Place | Path | None,
    errors_at: Place | Path | None,
    source_id: str = "",
    *,
    ranged: bool = False,
) -> Report:
    """Tell the checker what is in the places, and answer its report."""
    landed = place(landed_at) if isinstance(landed_at, Path) else landed_at
    letters = place(letters_at) if isinstance(letters_at, Path) else letters_at
    errors = (place(errors_at) if isinstance(errors_at, Path) else errors_at) or landed.below("errors")
    with terminal.Progress("objects read") as progress:
        for _, lines in landed.objects(without=[errors]):
            for line in lines:
                checker.found(line)
            progress.advance()
        for line in failed_lines(errors):
            checker.failed(line)
        for letter in letters_in(letters):
            checker.dead(letter, bundle_id(source_id, letter.topic, letter.partition, letter.offset, letter.timestamp))
    return checker.report(letters_checked=letters is not None, ranged=ranged)


def show(report: Report) -> None:
    """Print the report for people: a line a partition, the verdict, the first lost rows."""
    heads = (
        "partition",
        "bundles",
        "expected",
        "landed",
        "lost",
        "duplicate",
        "phantom",
        "dead-lettered",
        "error prefix",
    )
    fields = ("bundles", "expected", "landed", "lost", "duplicate", "phantom", "dead_lettered", "in_error_prefix")
    lines: list[tuple[str, Any]] = [*sorted(report.partitions.items()), ("total", report.total)]
    terminal.table(heads, [(name, *(getattr(tally, f) for f in fields)) for name, tally in lines])
    t = report.total
    for kind, names, count in (
        ("lost", report.lost, t.lost),
        ("phantom", report.phantom, t.phantom),
        ("no dead letter for", report.letters_missing, t.letters_missing),
    ):
        for name in names:
            print(f"{kind}: {terminal.clean(name)}")
        if count > len(names) > 0:
            print(f"{kind}: and {count - len(names):,} more")
    print(verdict(report))
    if not report.ok:
        terminal.say(more(REASONS["verify.failed"].code))
    if t.in_error_prefix:
        terminal.say(
            f"{t.in_error_prefix:,} rows are in the error prefix and did not land: mend the cause, send them again"
        )
    if not report.letters_checked:
        terminal.say("dead letters were not looked at; give --dead-letters to judge bad records and points too")


def verdict(report: Report) -> str:
    """Answer the one line that says it all."""
    t = report.total
    word = "verified" if report.ok else "NOT VERIFIED"
    if not report.ok:
        word += " (LMS-5001 verify.failed)"
    return (
        f"{word}: lost={t.lost} phantom={t.phantom} duplicate={t.duplicate} dead_lettered={t.dead_lettered} "
        f"error_prefix={t.in_error_prefix} letters={t.letters} letters_missing={t.letters_missing} "
        f"landed={t.landed} expected={t.expected} bundles={t.bundles}"
    )


def expectation(engine: Engine, record: Record, source_id: str) -> Expected:
    """Answer what `record` must become, by the engine itself."""
    whole = Expected(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        bundle_id=bundle_id(source_id, record.topic, record.partition, record.offset, record.timestamp),
        points=0,
    )
    try:
        out = engine.fan_out(record)
    except DecodeError as e:
        return msgspec.structs.replace(whole, poison=e.reason)
    rows = {int(row_id(line)[1]) for line in out.ndjson().splitlines()}
    rejected = tuple(n for n, _ in out.rejected)
    points = max([*rows, *rejected], default=-1) + 1
    absent = tuple(n for n in range(points) if n not in rows)
    parts = tuple(part.path for part in out.parts)
    return msgspec.structs.replace(whole, points=points, absent=absent, rejected=rejected, parts=parts)


def log_entries(path: Path) -> Iterator[Expected]:
    """Entries of a log of `publish --verifiable`. A last line that was cut by a crash is left out, and said."""
    decoder = msgspec.json.Decoder(Expected)
    number = 0
    broken: str | None = None
    for number, line in enumerate(lines_of(path), 1):
        if broken is not None:
            raise SourceError("source.file", broken)
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            broken = f"{path} line {number} is no entry of `publish --verifiable`: {e}"
    if broken is not None and number == 1:
        raise SourceError("source.file", broken)
    if broken is not None:
        terminal.say(f"{path}: the last line is cut and was left out")


class _FirehoseError(msgspec.Struct, rename="camel"):
    """What Firehose writes for a record that it could not partition."""

    raw_data: str = ""


def failed_lines(errors: Place) -> Iterator[bytes]:
    """Lines that Firehose put under its error prefix, as they were sent."""
    if not errors.exists():
        return
    decoder = msgspec.json.Decoder(_FirehoseError)
    for _, lines in errors.objects():
        for line in lines:
            try:
                yield from base64.b64decode(decoder.decode(line).raw_data, validate=True).splitlines()
            except (msgspec.DecodeError, ValueError, RecursionError):  # also UnicodeDecodeError, and base64's
                continue  # somebody else's file


def letters_in(root: Place | None) -> Iterator[DeadLetter]:
    """Dead letters of a place."""
    decoder = msgspec.json.Decoder(DeadLetter)
    for name, lines in root.objects(most=LETTER_LINE) if root is not None else ():
        for line in lines:
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                terminal.say(f"{name}: a line that is no dead letter was left out")


def offsets(flag: str, texts: Sequence[str]) -> dict[int, int]:
    """PARTITION=OFFSET texts as a mapping."""
    found: dict[int, int] = {}
    for text in texts:
        partition, equals, offset = text.partition("=")
        if not (equals and partition.isdecimal() and offset.isdecimal()):
            raise ConfigError("config.invalid", f"{flag} {text}: expected PARTITION=OFFSET, as in 0=1200")
        found[int(partition)] = int(offset)
    return found
