"""The transform: one record in, its rows out. Pure: no I/O, no clock."""

from lmstream.engine.engine import Engine, bundle_id
from lmstream.engine.output import FanOut, Group

__all__ = ["Engine", "FanOut", "Group", "bundle_id"]
