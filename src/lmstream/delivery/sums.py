"""Where each record and each data point went: two sums, never mixed, the same in a run, in `verify` and on its page."""

from msgspec import Struct


class Sums(Struct, frozen=True, kw_only=True):
    """Two sums: of records, and of the data points in those that were understood."""

    records: int = 0
    """Records in: the sum of the four that follow."""
    understood: int = 0
    """Bundles with data points."""
    empty: int = 0
    """Bundles without any."""
    tombstones: int = 0
    """Records without a value."""
    undecodable: int = 0
    """Records refused as a whole."""
    points: int = 0
    """Data points in understood records: the sum of the four that follow."""
    rows: int = 0
    skipped: int = 0
    """Points that make no row on purpose."""
    dropped: int = 0
    """Points that rules drop."""
    rejected: int = 0
    """Points that are wrong; a dead letter names them."""

    @property
    def right(self) -> bool:
        """Whether both sums are."""
        records = self.understood + self.empty + self.tombstones + self.undecodable
        return (self.records, self.points) == (records, self.rows + self.skipped + self.dropped + self.rejected)

    @property
    def lines(self) -> tuple[str, str]:
        """Each sum in words."""
        records = f"{self.understood:,} understood + {self.empty:,} empty + {self.tombstones:,} tombstones"
        dropped = f" + {self.dropped:,} dropped by rule" if self.dropped else ""
        points = f"{self.rows:,} rows + {self.skipped:,} skipped{dropped} + {self.rejected:,} rejected"
        return (
            f"records: {self.records:,} = {records} + {self.undecodable:,} undecodable",
            f"points of understood records: {self.points:,} = {points}",
        )
