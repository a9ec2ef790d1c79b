"""For one version: `lmstream.fanout` as it was called before; now lmstream.engine."""

import warnings

from lmstream.engine import Engine, FanOut, Group, bundle_id

__all__ = ["Engine", "FanOut", "Group", "bundle_id"]

warnings.warn(
    "lmstream.fanout is now lmstream.engine; this name goes with the next version", DeprecationWarning, stacklevel=2
)
