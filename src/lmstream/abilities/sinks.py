"""What a sink, or another outlet of rows, may be able to do besides what each must."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from lmstream.behind import Retention
from lmstream.interfaces import ObjectStore


@runtime_checkable
class Stored(Protocol):
    """A sink that is a place for objects which are made once: rows land there by claims, exactly once."""

    store: ObjectStore
    settings: Any

    async def close(self) -> None: ...


@runtime_checkable
class Checkable(Protocol):
    """A sink that can be tried before a start."""

    async def check(self) -> None:
        """Raises LmstreamError when rows could not be written."""
        ...


@runtime_checkable
class Outliving(Protocol):
    """A sink that keeps what it knows of landed records, and has to keep it for longer than their topics keep them."""

    retention: Retention | None
    """Of the topic that keeps records longest; None while that is not known. Set before the sink is asked or tried."""


@runtime_checkable
class Describable(Protocol):
    """A sink whose service can be asked how it is set up, by a right of its own."""

    async def describe(self) -> Mapping[str, Any]:
        """Raises LmstreamError; `sink.denied` when only this question is not allowed."""
        ...
