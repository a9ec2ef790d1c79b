"""lmstream: OTLP metrics bundles in, flat row events out, the same bytes in every host."""

from lmstream.engine import Engine, FanOut, Group
from lmstream.model import Record, RowEvent
from lmstream.settings import Settings

__all__ = ["Engine", "FanOut", "Group", "Record", "RowEvent", "Settings", "__version__"]

__version__ = "0.1.0"
