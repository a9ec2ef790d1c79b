"""`lmstream verify --repair`: what the verdict names is sent again, and nothing else; then it is verified again."""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec import Struct, field, structs

from lmstream.abilities import InFolder
from lmstream.cli import terminal
from lmstream.cli.ending import sentence
from lmstream.cli.kafka import settings_of
from lmstream.cli.landed import stream_place
from lmstream.cli.log_lines import logged
from lmstream.cli.offsets import delivered, reading
from lmstream.cli.verdict import show
from lmstream.config import Config
from lmstream.config.lake_tools import impatient
from lmstream.config.validation import REPLAY, refuse
from lmstream.errors import ConfigError, LmstreamError
from lmstream.kafka.chosen_offsets import ChosenOffsets, Missing, Span, merged
from lmstream.model import Record, TopicPartition
from lmstream.settings import Settings
from lmstream.storage import set_right
from lmstream.storage.bucket import Access
from lmstream.storage.objects import SCHEME, Place, Prefix, S3Access
from lmstream.storage.objects_s3 import S3Objects
from lmstream.verification import Judged, Report
from lmstream.verification.landed import path_digest
from lmstream.verification.report_html import repair_page
from lmstream.verification.wanting import RepairingChecker, Wanted

STEP: Final = 15.0
"""Seconds between two looks at what a Firehose may have delivered."""
_STEPS: Final = 20
"""Looks at least, where the whole wait is short."""
_NAMED: Final = 20


class Done(Struct, kw_only=True):
    """What a repair did."""

    rows: int = 0
    """That were sent, each because no right copy of it had landed."""
    records: int = 0
    """That they are of, and that were owed a letter."""
    letters: int = 0
    """Records that have a letter now."""
    copies: int = 0
    """Copies of rows that are there beyond those before: a request whose outcome was unknown was sent twice."""
    objects: dict[str, str] = field(default_factory=dict)
    """Objects from which wrong lines were taken, and where they lie as they were."""
    lines: int = 0
    """Wrong lines that were taken out of them."""
    missing: Missing = field(default_factory=Missing)
    others: int = 0
    """Records of which another one stands at their offset now: the topic was made again."""
    left: list[str] = field(default_factory=list)
    """What was left as it is, and why."""

    @property
    def sentences(self) -> list[str]:
        """For people."""
        said = [f"{self.rows:,} rows of {self.records:,} records were sent again; no row that had landed was"]
        said += [f"{self.letters:,} records have their dead letter now"] if self.letters else []
        said += [f"{self.copies:,} rows are there once more than before"] if self.copies else []
        said += [f"{self.lines:,} wrong lines were taken out of {len(self.objects):,} objects"] if self.objects else []
        some = list(self.objects.items())[:_NAMED]
        said += [f"{name} lies as it was at {aside}" for name, aside in some]
        said += [f"{self.others:,} records are others than those that were expected, and were not sent"] * bool(
            self.others
        )
        return [*said, *self.missing.lines, *self.left]


class Look(Protocol):
    """Verify once more."""

    def __call__(self, checker: RepairingChecker | None = None, /, *, step: float | None = None) -> Report: ...


def refuse_unfit(config: Config, rows: Place) -> None:
    """Raise ConfigError for a configuration whose sink does not land where the verdict looked, before anything long."""
    part = config.need("sink")
    if part.traits.discards or part.traits.prints:
        raise ConfigError("config.invalid", f"--repair delivers to the sink, and sink.type {part.name} keeps no rows")
    if part.traits.claims:
        what = f"--repair: sink.type {part.name} lands by claims, and a lake is repaired by them"
        raise ConfigError("config.invalid", what, "leave out --expected, and name its claims (--claims)")
    if config.dead_letters is None:
        raise ConfigError("config.invalid", "--repair writes the dead letters that are missing: set dead_letters.root")
    settings_of(config)
    refuse(reading(config, ()), REPLAY)
    there = ""
    if isinstance(part.settings, InFolder):
        there = str(Path(part.settings.folder).resolve())
        if isinstance(rows, Prefix) or Path(rows.name).resolve() == Path(there):
            there = there if isinstance(rows, Prefix) else ""
    elif isinstance(rows, Prefix) and (bucket := _bucket(config)) not in {"", rows.bucket}:
        there = f"{SCHEME}{bucket}"
    if there:
        what = f"--repair: the sink of the configuration lands rows at {there}, and --landed is {rows.name}"
        raise ConfigError("config.invalid", what, "give the configuration whose rows land there")


def _bucket(config: Config) -> str:
    """Where a stream lands its rows, as far as it says so."""
    try:
        return stream_place(config)[0]
    except LmstreamError:
        return ""  # a right of its own, which a repair does not need


def repair(
    look: Look,
    config: Config,
    others: Sequence[Judged],
    rows: Place,
    access: S3Access,
    *,
    settle: float,
    yes: bool,
) -> tuple[Report, Done | None, Report | None]:
    """Verify, repair what can be repaired if that is wanted, and verify again: both verdicts, and what was done."""
    checker = RepairingChecker()
    before = look(checker)
    wanted = list(checker.wanted(letters_checked=before.letters_checked))
    broken = [*checker.damaged, *(name for name in checker.unreadable if name not in checker.damaged)]
    if not wanted and not broken:
        return before, None, None
    _refuse_strange(before, checker)
    show_plan(wanted, checker)
    if not confirmed(yes=yes):
        return before, None, None
    done = Done()
    with logged(config, 0):
        _set_right(broken, checker, rows, access, done)
        # What was wrong is out of the way, and has no right copy.
        wanted = list(checker.wanted(letters_checked=before.letters_checked))
        for engine, some in _by_settings(wanted, config.engine, others):
            _send(structs.replace(config, engine=engine), some, done)
    if settle:
        terminal.say(f"rows may take up to {settle:,.0f} s until they land (--settle): looking until they are there")
    after = look(step=min(STEP, max(0.5, settle / _STEPS)))
    if after.total.phantom:
        what = "rows are of records that nobody named, and were left: rows of another topic (--topic again), or foreign"
        done.left.append(f"{after.total.phantom:,} {what}")
    done.copies = max(0, after.total.duplicate - before.total.duplicate)
    return before, done, after


def _refuse_strange(report: Report, checker: RepairingChecker) -> None:
    """Raise ConfigError where not the rows are wrong, but what they are compared with."""
    t = report.total
    wrong = t.changed + t.misplaced
    fix = "correct the settings (engine.org_id, engine.path, engine.source_id, --landed), then verify again"
    if wrong > t.landed or checker.more_damaged:
        what = f"--repair: {wrong:,} rows differ from what these settings make, and {t.landed:,} do not"
        raise ConfigError("verify.failed", f"{what}: they landed with other settings", fix)
    if t.lost and not t.landed and (t.phantom or t.outside):
        what = (
            f"--repair: not one of {t.expected:,} rows landed, and {t.phantom + t.outside:,} rows of others are there"
        )
        why = "settings of the engine that are not the run's make other ids (engine.source_id)"
        fix = "correct the settings; if these rows are lost indeed, send them with lmstream run --offsets"
        raise ConfigError("verify.failed", f"{what}: {why}", fix)


def show_plan(wanted: Sequence[Wanted], checker: RepairingChecker) -> None:
    """Say what would be done."""
    count = sum(each.rows for each in wanted)
    letters = sum(not each.rows for each in wanted)
    terminal.say(
        f"to repair: {count:,} rows of {len(wanted) - letters:,} records are sent again, and no others of them"
    )
    if letters:
        terminal.say(f"to repair: {letters:,} more records get the dead letter that is missing")
    for name, lines in list(checker.damaged.items())[:_NAMED]:
        terminal.say(f"to repair: {lines:,} wrong lines are taken out of {name}; it is kept beside, hidden, as it is")
    for name, why in list(checker.unreadable.items())[:_NAMED]:
        terminal.say(f"to repair: what can be read of {name} is kept, and it is kept beside, hidden, as it is ({why})")


def confirmed(*, yes: bool) -> bool:
    """Whether it is to be done: --yes, or a yes on a terminal."""
    if yes:
        return True
    if sys.stdin.isatty() and sys.stderr.isatty():
        terminal.say("repair it? [y/N]")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
    terminal.say("Nothing was changed. Give --yes to repair it.")
    return False


def _by_settings(
    wanted: Iterable[Wanted], today: Settings, others: Sequence[Judged]
) -> Iterable[tuple[Settings, list[Wanted]]]:
    """What is wanted by the settings of the engine that made it."""
    found: dict[int, list[Wanted]] = {}
    for each in wanted:
        record = Record(topic=each.topic, partition=each.partition, offset=each.offset, value=None)
        which = next((number for number, judged in enumerate(others) if judged.has(record)), -1)
        found.setdefault(which, []).append(each)
    return [(today if which < 0 else others[which].settings, some) for which, some in found.items()]


def _send(config: Config, wanted: Sequence[Wanted], done: Done) -> None:
    """Read the records again, and deliver of each what is wanted."""
    from lmstream.engine import bundle_id

    by_place = {(each.topic, each.partition, each.offset): each for each in wanted}
    sent: set[tuple[str, int, int]] = set()

    def pick(record: Record) -> Record | None:
        at = record.topic, record.partition, record.offset
        if (each := by_place.get(at)) is None:
            return None
        if bundle_id(config.engine.source_id, *record.identified) != each.bundle_id:
            done.others += 1
            return None
        sent.add(at)
        return each.again(record, config.engine.field_names)

    spans = merged(Span(TopicPartition(t, p), offset, offset + 1) for t, p, offset in by_place)
    config = reading(config, spans)
    source = ChosenOffsets(config.need("source").settings, pick)
    summary, missing = delivered(config, source)
    terminal.say(sentence(summary))
    done.rows += summary.rows
    done.records += len(sent)
    done.letters += summary.dead_letters
    for kind in ("gone", "unwritten", "empty"):
        getattr(done.missing, kind).join(getattr(missing, kind))
    if summary.unacked:
        done.left.append(f"{summary.unacked:,} records were not settled in time: repair again")


def _set_right(broken: Sequence[str], checker: RepairingChecker, rows: Place, access: S3Access, done: Done) -> None:
    """Take wrong lines out of objects."""

    async def one(name: str, objects: set_right.Objects | None) -> set_right.Right:
        path = path_digest(name.removeprefix(rows.name).rpartition("/")[0])

        def keep(line: bytes) -> bool:
            return checker.kind(line, path) in {"right", "other"}

        if objects is None:
            return await asyncio.to_thread(set_right.in_folder, Path(name), keep)
        return await set_right.in_bucket(objects, name.removeprefix(SCHEME).partition("/")[2], keep)

    async def all_of_them() -> None:
        store = None
        if isinstance(rows, Prefix):
            at = Access(bucket=rows.bucket, region=access.region or "", endpoint_url=access.endpoint_url or "")
            store = S3Objects(at)
        objects = None if store is None else impatient(store)
        for name in broken:
            try:
                right = await one(name, objects)
            except LmstreamError as error:
                done.left.append(f"{error.code} {error.detail}")
                continue
            done.objects[name] = right.aside
            done.lines += right.taken
        if store is not None:
            await store.close()

    if broken:
        asyncio.run(all_of_them())


def tell(
    before: Report,
    done: Done | Iterable[str] | None,
    after: Report | None,
    what: dict[str, str],
    html: Path | None,
    *,
    wide: bool,
    as_json: bool,
) -> Report:
    """Print both verdicts and what was done between, and write the page; answer the last verdict."""
    said = done.sentences if isinstance(done, Done) else list(done or ())
    with terminal.read_or_not():
        if as_json:
            terminal.print_json(msgspec.to_builtins({"before": before, "repair": done, "after": after}), indent=None)
        else:
            show(before, wide=wide)
            for line in said:
                print(terminal.clean(line, limit=1000))
            if after is not None:
                show(after, wide=wide)
    if html is not None:
        try:
            html.write_text(repair_page(before, after or before, said, what), encoding="utf-8")
            terminal.say(f"the report is in {html}")
        except OSError as e:
            terminal.insist(f"--html {html}: {e.strerror}: the page was not written")
    return after or before
