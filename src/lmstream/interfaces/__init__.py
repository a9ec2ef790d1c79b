"""The seams of lmstream: protocols of one to four methods. A module that has them is a codec, a source or a sink."""

from lmstream.interfaces.bundles import (
    PARTS,
    TWO_VALUES,
    Bundle,
    Codec,
    LostPart,
    Metric,
    Place,
    Resource,
    Scope,
    Series,
    Shaper,
)
from lmstream.interfaces.parts import (
    Assign,
    Assigned,
    Batch,
    Clock,
    DeadLetterSink,
    Drain,
    Limits,
    Load,
    PoisonGuard,
    Sink,
    Sleep,
    Source,
    Standing,
)
from lmstream.interfaces.stores import ObjectStore, ReplacingStore, StoreError, Tagged

__all__ = [
    "PARTS", "TWO_VALUES", "Assign", "Assigned", "Batch", "Bundle", "Clock", "Codec", "DeadLetterSink", "Drain",
    "Limits", "Load", "LostPart", "Metric", "ObjectStore", "Place", "PoisonGuard", "ReplacingStore", "Resource",
    "Scope", "Series", "Shaper", "Sink", "Sleep", "Source", "Standing", "StoreError", "Tagged",
]  # fmt: skip
