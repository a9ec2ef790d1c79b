"""What travels through lmstream: records in, row events out, dead letters, verdicts and outcomes."""

from lmstream.model.letters import DeadLetter
from lmstream.model.outcomes import NOT_TRIED, Failure, Kind, Pack, Status
from lmstream.model.records import CLOSED, CLOSED_FOR, KILLS, UNREADABLE, Identity, Record, TopicPartition
from lmstream.model.records import Position as Position  # for lmstream's own modules: not public, so not in __all__
from lmstream.model.rows import (
    DIMENSIONS,
    Buckets,
    DimensionKind,
    DimensionRow,
    Exemplar,
    MetricType,
    Quantile,
    RowEvent,
    Temporality,
    dimension_path,
)

__all__ = [
    "CLOSED", "CLOSED_FOR", "DIMENSIONS", "KILLS", "NOT_TRIED", "UNREADABLE", "Buckets", "DeadLetter", "DimensionKind",
    "DimensionRow", "Exemplar", "Failure", "Identity", "Kind", "MetricType", "Pack", "Quantile", "Record", "RowEvent",
    "Status", "Temporality", "TopicPartition", "dimension_path",
]  # fmt: skip
