"""What a record became, for who asks: its lines, all of them, by partition path, or cut to a sink's measure."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from lmstream.engine.columns import Columns
from lmstream.engine.dimension_line import DimensionLine
from lmstream.interfaces import LostPart


class Named(Protocol):
    """A metric, as far as paths are concerned."""

    @property
    def key(self) -> str: ...


class Spread(NamedTuple):
    """Partitions that rows of one record lie in: these metrics of one organization in one hour."""

    org: str
    hour: bytes
    """As yyyy-MM-ddTHH."""
    metrics: Sequence[Named]


class Group(Struct, frozen=True):
    """Lines of one partition path."""

    path: str
    data: bytes
    rows: int


class FanOut(Protocol):
    """What one record became. Lines are joined when they are asked for: a sink wants groups or cuts, not both."""

    @property
    def rows(self) -> int:
        """Rows of the record."""
        ...

    @property
    def noted(self) -> dict[str, int]:
        """What was tolerated, counted.

        Points without a name of their device or datasource, with an attribute value of unknown members, with the
        record's time: `device.unknown`, `datasource.unknown`, `attribute.empty`, `time.record`. Parts left out of rows:
        `part.nan`, `part.infinite`, `part.range`, `part.type`, `part.missing`, `part.bound`, `part.limit`. Metrics:
        `enum.name`, `enum.unknown`, `metric.empty`. Members: `member.unknown`. Bundles: `bundle.empty`.
        Values that a rule could not scale exactly: `scale.inexact`.
        """
        ...

    @property
    def points(self) -> int:
        """Data points that were counted: ordinals are below."""
        ...

    @property
    def parts(self) -> tuple[LostPart, ...]:
        """Parts in which no points could be counted; they belong into the dead letter too."""
        ...

    @property
    def unknown(self) -> tuple[str, ...]:
        """Path and name of the first ten fields that OTLP metrics do not define, in parts that gave no point."""
        ...

    @property
    def skipped(self) -> dict[str, int]:
        """Data points that made no row on purpose, counted by reason."""
        ...

    @property
    def dropped(self) -> dict[str, int]:
        """Data points that rules dropped, counted by the rule's name."""
        ...

    @property
    def rejected(self) -> tuple[tuple[int, str], ...]:
        """(ordinal, reason) of data points that are wrong; they belong into a dead letter."""
        ...

    def why(self, ordinal: int) -> str:
        """Where a rejected point is and what is wrong with it: metric, path, member, what was seen. Decodes again:
        for messages, of a few points."""
        ...

    @property
    def left_out(self) -> dict[int, list[str]]:
        """By ordinal, why parts of the point are not in its row, or would not be if it had one. Not of a replay."""
        ...

    @property
    def paths(self) -> set[str]:
        """The partition paths of the lines."""
        ...

    @property
    def hour(self) -> tuple[str, bytes] | None:
        """Organization and hour (yyyy-MM-ddTHH) of all of the lines; None when there are several. Quick: it is asked
        for every record."""
        ...

    def spread(self) -> list[Spread]:
        """The partitions of the lines, or a few more where points made no row."""
        ...

    def ndjson(self) -> bytes:
        """All lines in document order."""
        ...

    def first(self, rows: int) -> bytes:
        """The first lines in document order, at most so many."""
        ...

    @property
    def groups(self) -> list[Group]:
        """Lines by partition path, paths in order of first appearance, lines of a path in document order."""
        ...

    def by_path(self) -> list[tuple[str, bytes, int]]:
        """The same as (path, data, rows)."""
        ...

    @property
    def dimensions(self) -> list[DimensionLine]:
        """The dimension rows that these rows need, in document order, each once: to be durable before the rows are.
        Empty without `engine.dimensions`, and of rows that were made before."""
        ...

    def columns(self) -> list[Columns]:
        """The rows as columns, one Columns for each partition path, paths in order of first appearance. No line is
        made for them: see engine.columns. Not with `engine.dimensions`: NotImplementedError."""
        ...

    def cut(self, max_rows: int, max_bytes: int) -> list[tuple[bytes, int]]:
        """Lines in document order as (data, rows), each within both bounds. A single line over `max_bytes` comes by
        itself; limits.row_bytes keeps that from happening with any sink of lmstream.
        """
        ...
