"""The transform: one record in, its rows out. Pure: no I/O, no clock."""

from lmstream.engine.engine import Engine
from lmstream.engine.fan_out import FanOut, Group
from lmstream.engine.row_ids import bundle_id

__all__ = ["Engine", "FanOut", "Group", "bundle_id"]
