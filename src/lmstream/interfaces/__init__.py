"""The seams of lmstream: protocols of one to four methods. Modules that have them are its parts, or your own."""

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
    Sieve,
    Sifted,
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
from lmstream.interfaces.transforms import MAY_CHANGE, Transform

__all__ = [
    "MAY_CHANGE", "PARTS", "TWO_VALUES", "Assign", "Assigned", "Batch", "Bundle", "Clock", "Codec", "DeadLetterSink",
    "Drain", "Limits", "Load", "LostPart", "Metric", "ObjectStore", "Place", "PoisonGuard", "ReplacingStore",
    "Resource", "Scope", "Series", "Shaper", "Sieve", "Sifted", "Sink", "Sleep", "Source", "Standing", "StoreError",
    "Tagged", "Transform",
]  # fmt: skip
