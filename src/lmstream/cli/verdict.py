"""The verdict of `verify` for people: a line a partition, the first rows that are wrong, and what to do."""

from typing import Final

from lmstream.cli import terminal
from lmstream.cli.tables import Column, table
from lmstream.errors import REASONS, more
from lmstream.verification import Report
from lmstream.verification.lake_sums import Lake
from lmstream.verification.report import BAD, FIELDS

_KEPT: Final = {name: place for place, name in enumerate((*BAD, "duplicate", "landed", "expected"), 2)}
"""What must be nought is kept where not all columns fit."""


def show(report: Report, *, wide: bool = False) -> None:
    """Print the report for people: a line a partition, the verdict, the first lost rows."""
    some = {"dead_letters", "letters_missing"} | ({"dead_lettered", "in_error_prefix"} if report.lake else set())
    fields = {name: label for name, label in FIELDS.items() if name not in some}
    lines = [*sorted(report.partitions.items()), ("total", report.total)]
    heads = [Column(label, _KEPT.get(name, 0), "count") for name, label in fields.items()]
    rows = [(name, *(getattr(tally, f) for f in fields)) for name, tally in lines]
    table([Column("partition", 1, "id"), *heads], rows, wide=wide)
    t = report.total
    for kind, names, count in (
        ("lost", report.lost, t.lost),
        ("changed", report.changed, t.changed),
        ("misplaced", report.misplaced, t.misplaced),
        ("phantom", report.phantom, t.phantom),
        ("no dead letter for", report.letters_missing, t.letters_missing),
        ("orphan", report.orphan_rows, report.orphans),
    ):
        for name in names:
            print(f"{kind}: {terminal.clean(name)}")
        if count > len(names) > 0:
            print(f"{kind}: and {count - len(names):,} more")
    if report.lake is not None:
        _show_lake(report.lake)
    if report.lake is None or not report.lake.alone:
        for line in report.sums.lines:
            print(line)
    print(report.verdict)
    if not report.ok:
        terminal.say(more(REASONS["verify.failed"].code))
    _explain(report)


def _show_lake(lake: Lake) -> None:
    """Print what is wrong with the chains of a lake, where they moved, and what was walked."""
    for kind, names, count in (
        ("chain", lake.chain, lake.chain_faults),
        ("unexpected object", lake.unexpected, lake.objects_unexpected),
        ("twice", lake.copies, len(lake.copies)),
        ("moved", lake.jumps, sum(lake.jumped.values())),
    ):
        for name in names:
            print(f"{kind}: {terminal.clean(name)}")
        if count > len(names) > 0:
            print(f"{kind}: and {count - len(names):,} more")
    for line in lake.lines:
        print(line)


def _explain(report: Report) -> None:
    """Say what the counts do not say by themselves."""
    t = report.total
    if t.in_error_prefix:
        terminal.say(
            f"{t.in_error_prefix:,} rows are in the error prefix and did not land: fix the cause, then send them again"
            " (lmstream dlq replay)"
        )
    if report.orphans:
        terminal.say(
            f"{report.orphans:,} rows have keys that no dimension row explains: --repair sends their records once more,"
            " and dlq replay those that are in dead letters"
        )
    if report.lake is not None and report.lake.open:
        terminal.say(
            f"{report.lake.open:,} of the newest windows are claimed, and {t.buffered:,} of their rows are in objects"
            " that are not all there yet: the member that owns the lane is landing them. --settle SECONDS waits, and"
            " calls what is missing then lost"
        )
    elif t.buffered:
        terminal.say(
            f"{t.buffered:,} committed rows have not landed, and Firehose may still buffer them: leave out --no-wait"
        )
    if t.outside and not t.phantom:
        terminal.say(f"{t.outside:,} rows are of records outside the range, or older than what the topic still has")
    if report.ids_only:
        terminal.say(
            "the log has no digests for some bundles: their rows were judged by ids alone. publish --verifiable writes"
            " digests when it has the run's own settings (--config, --org)"
        )
    if t.older_contract:
        terminal.say(f"{t.older_contract:,} rows are as an older row contract writes them: right, and no reason to act")
    if t.older_skipped:
        terminal.say(f"{t.older_skipped:,} points were skipped by an older row contract, which wrote their records")
    if not report.letters_checked:
        terminal.say("dead letters were not checked; give --dead-letters to check bad records and points too")
