"""What `verify` answers: counts of rows, of each partition and in all, and the first that are wrong."""

from typing import Final

from msgspec import Struct, field

SAMPLES: Final = 20
"""Rows named in a report, of each kind."""


class Tally(Struct, kw_only=True, rename="camel"):
    """Counts of rows, of one partition or of all."""

    bundles: int = 0
    """Records: the sum of the four that follow."""
    understood: int = 0
    """Bundles with data points."""
    empty: int = 0
    """Bundles without any."""
    tombstones: int = 0
    """Records without a value."""
    undecodable: int = 0
    """Records that are no bundle."""
    points: int = 0
    """Data points of understood records: the sum of the three that follow."""
    expected: int = 0
    """Rows."""
    skipped: int = 0
    """Points that make no row on purpose."""
    rejected: int = 0
    """Points that are wrong; a dead letter must name them."""
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
    letters: int = 0
    """Bad records, bad points and parts without countable points that a dead letter names, as it must."""
    letters_missing: int = 0


class Report(Struct, kw_only=True, rename="camel"):
    """What `verify` answers. `ok` is false when anything is lost, changed, misplaced, phantom, only in the sink's error
    prefix, where no query finds it, or bad without the dead letter that must name it."""

    v: int = 1
    ok: bool
    total: Tally
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

    @property
    def sums(self) -> tuple[str, str]:
        """Where each record and each data point went, in two lines."""
        t = self.total
        records = f"{t.understood:,} understood + {t.empty:,} empty + {t.tombstones:,} tombstones"
        points = f"{t.expected:,} rows + {t.skipped:,} skipped + {t.rejected:,} rejected"
        return (
            f"records: {t.bundles:,} = {records} + {t.undecodable:,} undecodable",
            f"points of understood records: {t.points:,} = {points}",
        )

    @property
    def verdict(self) -> str:
        """The one line that says it all."""
        t = self.total
        word = "NOT VERIFIED (LMS-5001 verify.failed)"
        if not self.settled and self.ok:
            word = "not settled"
        elif self.ok:
            word = "ids only (bytes and paths not compared)" if self.ids_only else "verified"
        some = ("older_contract", "buffered", "in_flight", "not_read", "outside")
        more = "".join(f" {name}={count}" for name in some if (count := getattr(t, name)))
        return (
            f"{word}: lost={t.lost} phantom={t.phantom} changed={t.changed} misplaced={t.misplaced} "
            f"duplicate={t.duplicate} dead_lettered={t.dead_lettered} error_prefix={t.in_error_prefix} "
            f"letters={t.letters} letters_missing={t.letters_missing} "
            f"landed={t.landed} expected={t.expected} bundles={t.bundles}{more}"
        )
