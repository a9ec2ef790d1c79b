"""Encoded pieces of a row, shared by the codecs: from plain attributes to the bytes that every line repeats."""

import math
import re
from base64 import b64encode
from collections.abc import Callable, Sequence, Sized
from typing import ClassVar, Final, TypeVar

import msgspec

from lmstream.errors import DecodeError
from lmstream.interfaces import Metric, Resource, Scope
from lmstream.partitioning import metric_keys
from lmstream.settings import Settings

encode: Final = msgspec.json.Encoder().encode

MAX_NESTING: Final = 47
"""Containers an attribute value may nest: what fits into 100 nested protobuf messages, the usual limit of receivers."""

Plain = str | bool | int | float | bytes | list["Plain"] | dict[str, "Plain"] | None
"""An AnyValue without its wrapping; None is the empty value."""

_DEVICE_ID: Final = ("hostId", "host.id", "service.instance.id", "hostName", "host.name", "service.name")
_DEVICE_NAME: Final = ("hostName", "host.name")
_INTEGER: Final = re.compile(r"-?[0-9]{1,1000}", re.ASCII)
TEMPORALITIES: Final = ("unspecified", "delta", "cumulative")
ENUM: Final = frozenset(range(len(TEMPORALITIES)))
"""Numbers of temporalities that OTLP has."""
KINDS: Final = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")

V = TypeVar("V")


class PieceCache(dict[bytes, V]):
    """From raw bytes to what they become, bounded in bytes. The miss function decodes, validates and encodes once; what
    it raises is not kept. A full cache is emptied: real traffic repeats the same keys within a poll or two.
    """

    def __init__(self, make: Callable[[bytes], tuple[V, int]], budget: int) -> None:
        """`make` answers (value, bytes of its piece); `budget` in bytes, overhead of the entries included."""
        super().__init__()
        self._make = make
        self._budget = budget
        self._used = self._dropped = 0
        self.largest: int = 0
        """Bytes of the largest piece seen, kept when the cache is emptied."""

    @property
    def state(self) -> tuple[int, int]:
        """(bytes in use, pieces ever made): what was kept and what was dropped, so that a miss counts nothing."""
        return self._used, self._dropped + len(self)

    def __missing__(self, key: bytes) -> V:
        value, size = self._make(key)
        if size > self.largest:  # noqa: PLR1730 - max() costs three times as much, and misses are counted in millions
            self.largest = size
        self._used += len(key) + size + 256  # two objects' headers and a slot of the table, rounded up
        if self._used > self._budget:
            self._dropped += len(self)
            self.clear()
            self._used = len(key) + size + 256
        self[key] = value
        return value

    def empty(self) -> None:
        """Forget all entries."""
        self._dropped += len(self)
        self.clear()
        self._used = 0


def count(
    asked: list[int], noted: dict[str, int], resources: int, scopes: int, sent: int, metrics: int, points: int
) -> bool:
    """Count what a bundle asked the caches for. Of `sent` metrics, note those without data points, and a bundle without
    any: OTLP allows both. Answers whether there are such."""
    asked[0] += resources
    asked[1] += scopes
    asked[2] += metrics
    asked[3] += points
    if sent == metrics and points:
        return False
    if sent > metrics:
        noted["metric.empty"] = sent - metrics
    if not points:
        noted["bundle.empty"] = 1
    return True


MAX_ITEMS: Final = 1024
"""Attributes of one resource, scope or point, exemplars of a point, items of one array or map: far more than anybody
sends, and few enough that no bundle takes seconds."""


def bounded(items: Sized, what: str) -> None:
    """Raise DecodeError limits.attributes for more than MAX_ITEMS."""
    if len(items) > MAX_ITEMS:
        raise DecodeError("limits.attributes", f"{len(items):,} {what}")


def too_deep() -> DecodeError:
    """The error for a value that nests deeper than MAX_NESTING."""
    return DecodeError("limits.depth", f"an attribute value nests deeper than {MAX_NESTING} levels")


def text(value: Plain) -> str:
    """An attribute value as text, by OTLP's rule for formats without typed attributes (specification/common, AnyValue
    representation for non-OTLP protocols).
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return _not_finite(value)
    if isinstance(value, list | dict):
        value = _inner(value)
    return encode(value).decode()


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _inner(value: Plain) -> Plain:
    """The value inside a container, where JSON has no literal for numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return _not_finite(value)
    if isinstance(value, list):
        return [_inner(item) for item in value]
    if isinstance(value, dict):
        return {key: _inner(item) for key, item in value.items()}
    return value


class PartlyRead(dict[str, str]):
    """Attributes as text, with values of which nothing was understood, and how many. A type of its own, so that those
    that were read whole, nearly all, cost nothing more."""

    empty: int


class Marked(bytes):
    """A piece of attributes with what an engine's rules say of it (lmstream.engine.shaping). Pieces of the same marks
    have a class of their own: it is asked of each point, and what a piece has by itself is far from it in memory."""

    __slots__ = ()
    rules: int = -1
    sent: bytes = b""


class MarkedAlone(Marked):
    """One that shares its class with pieces of other marks."""


class Counted(MarkedAlone):
    """A piece with attribute values of which nothing was understood, and how many: each point that uses it counts."""

    empty: int
    seen: ClassVar[bool] = False
    """Whether any was ever made: only then pieces are looked over for them."""


def count_empty(noted: dict[str, int], tails: Sequence[bytes], odd: dict[int, bytes | str]) -> None:
    """Note attribute.empty for each point of which the attributes were read."""
    empty = sum(tail.empty for at, tail in enumerate(tails) if type(tail) is Counted and odd.get(at) not in UNREAD)
    if empty:
        noted["attribute.empty"] = noted.get("attribute.empty", 0) + empty


HEADS: Final = frozenset({"decode.type", "limits.attributes", "limits.depth"})
"""Reasons to refuse a resource, a scope or a metric, and with it the points under it alone."""
UNREAD: Final = HEADS | {"point.type"}
"""Reasons of points of which nothing else is read."""


def _notes(missing: str, attributes: dict[str, str]) -> dict[str, int]:
    """What each point of a resource or scope notes; `missing` is empty or a reason."""
    notes = {missing: 1} if missing else {}
    if isinstance(attributes, PartlyRead):
        notes["attribute.empty"] = attributes.empty
    return notes


def _first(attributes: dict[str, str], names: tuple[str, ...]) -> str:
    """The first that is set; an empty text counts as not set."""
    for name in names:
        if found := attributes.get(name):
            return found
    return ""


def resource_piece(device: str, name: str | None, attributes: dict[str, str]) -> bytes:
    """The members that rows of one resource share."""
    piece = b'"deviceId":' + encode(device) + b","
    if name:
        piece += b'"deviceName":' + encode(name) + b","
    if attributes:
        piece += b'"resource":' + encode(attributes) + b","
    return piece


def scope_piece(datasource: str, attributes: dict[str, str]) -> bytes:
    """The members that rows of one scope share."""
    piece = b'"datasource":' + encode(datasource) + b","
    if attributes:
        piece += b'"scope":' + encode(attributes) + b","
    return piece


def resource(attributes: dict[str, str], settings: Settings) -> tuple[Resource, int]:
    """A resource's part of the row."""
    device = _first(attributes, _DEVICE_ID)
    name = _first(attributes, _DEVICE_NAME)
    piece = resource_piece(device or "unknown", name, attributes)
    notes = {} if device and type(attributes) is dict else _notes("" if device else "device.unknown", attributes)
    return Resource(piece, _first(attributes, settings.org_attributes), notes), len(piece)


def scope(name: str, version: str, attributes: dict[str, str]) -> tuple[Scope, int]:
    """A scope's part of the row. Name and version win over attributes of those names."""
    named = {"name": name} if name else {}
    if version:
        named["version"] = version
    merged = named | attributes | named
    piece = scope_piece(name or "unknown", merged)
    epoch = attributes.get("epoch", "")
    notes = {} if name and type(attributes) is dict else _notes("" if name else "datasource.unknown", attributes)
    return Scope(piece, epoch if _INTEGER.fullmatch(epoch) else "", notes), len(piece)


NO_RESOURCE: Final = Resource(b"", "", {})
NO_SCOPE: Final = Scope(b"", "", {})
"""Keep the place of what was refused: its points make no rows."""


_INSTANCE: Final = ("dataSourceInstanceName", "wildValue")
"""Attributes of a point of which the first that is set names its instance."""
_BEFORE_INSTANCE: Final = b',"instance":'
_BEFORE_ATTRIBUTES: Final = b',"attributes":'
_END: Final = b"}\n"
TAIL: Final = (tuple(name.encode() for name in _INSTANCE), _BEFORE_INSTANCE, _BEFORE_ATTRIBUTES, _END)
"""What the native part needs to write a tail."""


def tail_piece(instance: str | None, attributes: dict[str, str]) -> bytes:
    """What closes the line of a point."""
    if instance and attributes:
        return b"".join((_BEFORE_INSTANCE, encode(instance), _BEFORE_ATTRIBUTES, encode(attributes), _END))
    if instance:
        return _BEFORE_INSTANCE + encode(instance) + _END
    return _BEFORE_ATTRIBUTES + encode(attributes) + _END if attributes else _END


def tail(attributes: dict[str, str]) -> tuple[bytes, int]:
    """A point's attributes, the brace that closes the row, and the newline."""
    if not attributes:
        return _END, len(_END)
    first, then = _INSTANCE
    piece = tail_piece(attributes.get(first) or attributes.get(then), attributes)
    if type(attributes) is not dict and isinstance(attributes, PartlyRead):
        piece = Counted(piece)
        piece.empty = attributes.empty
        Counted.seen = True
    return piece, len(piece)


def _kind_piece(kind: str, temporality: int, *, monotonic: bool) -> bytes:
    piece = f',"type":"{kind}",'
    if kind not in ("gauge", "summary"):
        piece += f'"temporality":"{TEMPORALITIES[temporality]}",'
    if kind == "sum":
        piece += '"monotonic":true,' if monotonic else '"monotonic":false,'
    return piece.encode()


_KNOWN: Final = range(len(TEMPORALITIES))
_KIND_PIECES: Final = {
    (kind, temporality, monotonic): _kind_piece(kind, temporality, monotonic=monotonic)
    for kind in KINDS
    for temporality in _KNOWN
    for monotonic in (False, True)
}


def metric_piece(name: str, key: str, unit: str | None, kind: str, temporality: int, monotonic: bool) -> bytes:  # noqa: FBT001 - as Heads has them
    """The members that rows of one metric share."""
    encoded = encode(name)
    unit_piece = b',"unit":' + encode(unit) if unit else b""
    kind_piece = _KIND_PIECES[kind, temporality, monotonic]
    return b"".join(
        (b'"metric":', encoded, b',"metricKey":', encoded if key == name else encode(key), unit_piece, kind_piece)
    )


class Heads(dict[tuple[str | None, str | None, str, int, bool | None], Metric]):
    """From (name, unit, type, temporality, monotonic) to the metric's part of the row, bounded like a PieceCache."""

    def __init__(self, settings: Settings, shape: Callable[[Metric], Metric] | None = None) -> None:
        """Keys of metrics follow the settings; `shape` is what an engine's rules make of a metric."""
        super().__init__()
        self._shape = shape
        self._key = metric_keys(settings)
        self._budget = settings.limits.cache_bytes // 8
        self._used = self._dropped = 0
        self.largest: int = 0

    @property
    def state(self) -> tuple[int, int]:
        """As of a PieceCache."""
        return self._used, self._dropped + len(self)

    def __missing__(self, head: tuple[str | None, str | None, str, int, bool | None]) -> Metric:
        name, unit, kind, temporality, monotonic = head
        name = name or ""
        key = self._key(name)
        piece = metric_piece(name, key, unit, kind, temporality if temporality in _KNOWN else 0, monotonic is True)
        metric = Metric(piece, key)
        if self._shape is not None:
            metric = self._shape(metric)
        size = len(metric.piece)
        if size > self.largest:  # noqa: PLR1730 - as above
            self.largest = size
        self._used += 2 * size + 512
        if self._used > self._budget:
            self._dropped += len(self)
            self.clear()
            self._used = 0
        self[head] = metric
        return metric
