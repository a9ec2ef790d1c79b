"""lmstream: OTLP metrics bundles in, flat row events out, the same bytes in every host."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstream.engine import Engine, FanOut, Group
    from lmstream.model import Record, RowEvent
    from lmstream.settings import Settings

__all__ = ["Engine", "FanOut", "Group", "Record", "RowEvent", "Settings", "__version__"]

__version__ = "0.1.0"

_FROM = {"Engine": "engine", "FanOut": "engine", "Group": "engine", "Record": "model", "RowEvent": "model"}
_FROM["Settings"] = "settings"


def __getattr__(name: str) -> object:
    """Import what is asked for when it is: `lmstream --help` and completion need none of it."""
    if (module := _FROM.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - as above

    found: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = found
    return found
