"""What `verify` answers: counts of rows, of each partition and in all, and the first that are wrong."""

from typing import Final

from msgspec import Struct, field

from lmstream.delivery import Sums
from lmstream.verification.lake_sums import Lake

SAMPLES: Final = 20
"""Rows named in a report, of each kind."""
FIELDS: Final = {
    "bundles": "bundles",
    "expected": "expected rows",
    "landed": "landed",
    "lost": "lost",
    "changed": "changed",
    "misplaced": "misplaced",
    "phantom": "phantom",
    "duplicate": "duplicate",
    "dead_lettered": "rows in dead letters",
    "in_error_prefix": "error prefix",
    "dead_letters": "dead letters",
    "letters_missing": "missing in dead letters",
}
"""Counts of a tally that people are shown, and what they are called."""
BAD: Final = ("lost", "changed", "misplaced", "phantom", "in_error_prefix", "letters_missing")
"""Counts of a tally that must be nought."""


class Tally(Struct, kw_only=True):
    """Counts of rows, of one partition or of all. The first ten are those of Sums."""

    bundles: int = 0
    """Records."""
    understood: int = 0
    empty: int = 0
    tombstones: int = 0
    undecodable: int = 0
    points: int = 0
    expected: int = 0
    """Rows."""
    skipped: int = 0
    dropped: int = 0
    """Points that rules drop: none of them may land."""
    rejected: int = 0
    landed: int = 0
    """Expected rows that landed at least once."""
    lost: int = 0
    duplicate: int = 0
    """Copies beyond the first: harmless in the view `rows`."""
    phantom: int = 0
    """Landed rows that nobody expected."""
    changed: int = 0
    """Rows that landed with other bytes than the engine makes of their record."""
    misplaced: int = 0
    """Rows that landed with the right bytes under another path."""
    older_contract: int = 0
    """Landed rows as an older row contract writes them: right, and counted for information."""
    older_skipped: int = 0
    """Points that an older row contract skipped, of records that it wrote: rows, or rejected by name, of today's."""
    outside: int = 0
    """Landed rows of records that are not judged: outside the given range, or older than what the topic still has."""
    in_flight: int = 0
    """Rows of records that the group has read and not committed."""
    not_read: int = 0
    """Rows of records that the group has not read yet."""
    buffered: int = 0
    """Committed rows that have not landed, and that Firehose may still buffer: judged before its interval was over."""
    dead_lettered: int = 0
    """Expected rows that did not land and are in a dead letter."""
    in_error_prefix: int = 0
    """Expected rows that did not land and are in the sink's error prefix."""
    dead_letters: int = 0
    """Records with a dead letter, as a run and `dlq stats` count them."""
    letters: int = 0
    """Bad records, bad points and parts without countable points that a dead letter names, as it must."""
    letters_missing: int = 0

    @property
    def sums(self) -> Sums:
        """Where each record and each data point went."""
        same = {name: getattr(self, name) for name in Sums.__struct_fields__ if name not in {"records", "rows"}}
        return Sums(records=self.bundles, rows=self.expected, **same)


class Report(Struct, kw_only=True):
    """What `verify` answers. `ok` is false when anything is lost, changed, misplaced, phantom, only in the sink's error
    prefix, where no query finds it, or bad without the dead letter that must name it."""

    ok: bool
    total: Tally
    sums: Sums
    """Of the records that are judged."""
    partitions: dict[str, Tally]
    lost: list[str] = field(default_factory=list)
    """The first SAMPLES lost rows, as `topic/partition/offset:ordinal rowId`."""
    phantom: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """As `lost`, with the object."""
    misplaced: list[str] = field(default_factory=list)
    letters_missing: list[str] = field(default_factory=list)
    letters_checked: bool = True
    settled: bool = True
    """False where rows are buffered: whether they are lost cannot be said yet."""
    ids_only: bool = False
    """Some of what was expected has no digests: bytes and paths of its rows were not compared."""
    malformed: int = 0
    """Landed lines without a row id."""
    dimensions: int = 0
    """Dimension rows that landed, copies too: no rows of any record. Of a lake they are in `lake`."""
    orphans: int = 0
    """Landed rows with a key that no dimension row of their hour and organization explains: what it stands for is lost.
    Not `ok`, unless it may be buffered still."""
    orphan_rows: list[str] = field(default_factory=list)
    """The first of them, each with its key."""
    lake: Lake | None = None
    """Of a lake: what was seen of its claims and objects."""

    @property
    def verdict(self) -> str:
        """The one line that says it all."""
        t = self.total
        word = "NOT VERIFIED (LMS-5001 verify.failed)"
        if not self.settled and self.ok:
            word = "not settled"
        elif self.ok:
            word = "ids only (bytes and paths not compared)" if self.ids_only else "verified"
        if self.lake is not None and self.ok and self.lake.alone:
            word = f"{word} (proved from the bucket alone)"
        some = ("dead_lettered", "older_contract", "older_skipped", "buffered", "in_flight", "not_read", "outside")
        more = "".join(f" {name}={count}" for name in some if (count := getattr(t, name)))
        if self.dimensions or self.orphans:
            more += f" dimensions={self.dimensions} orphans={self.orphans}"
        if self.lake is not None:
            more += f" claims={self.lake.claims} objects={self.lake.objects} open={self.lake.open}"
            more += f" chain_faults={self.lake.chain_faults} unexpected_objects={self.lake.objects_unexpected}"
            if self.lake.dimensions or not self.lake.ok:
                more += f" dimensions={self.lake.dimensions} dimensions_wrong={self.lake.dimensions_wrong}"
                more += f" orphans={self.lake.orphans}"
        return (
            f"{word}: lost={t.lost} phantom={t.phantom} changed={t.changed} misplaced={t.misplaced} "
            f"duplicate={t.duplicate} error_prefix={t.in_error_prefix} "
            f"dead_letters={t.dead_letters} letters_missing={t.letters_missing} "
            f"landed={t.landed} expected={t.expected} bundles={t.bundles}{more}"
        )
