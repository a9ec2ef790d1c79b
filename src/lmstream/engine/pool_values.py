"""What the pieces in pools say: each distinct piece is decoded once, whatever the number of its rows."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from lmstream.model import RowEvent


class Org(Struct, rename="camel"):
    """Members of an organization's piece."""

    org_id: str
    org_key: str


class Device(Struct, rename="camel"):
    """Members of a resource's piece."""

    device_id: str
    device_name: str | None = None
    resource: dict[str, str] = {}


class ScopeOf(Struct, rename="camel"):
    """Members of a scope's piece."""

    datasource: str
    scope: dict[str, str] = {}


class MetricOf(Struct, rename="camel"):
    """Members of a metric's piece."""

    metric: str
    metric_key: str
    type: str
    unit: str | None = None
    temporality: str | None = None
    monotonic: bool | None = None


class Point(Struct, rename="camel"):
    """Members of a piece of attributes."""

    instance: str | None = None
    attributes: dict[str, str] = {}


ODD = tuple(
    field
    for field in msgspec.structs.fields(RowEvent)
    if field.name
    in {
        "value", "count", "sum", "min", "max", "bucket_counts", "explicit_bounds", "scale", "zero_count",
        "zero_threshold", "positive", "negative", "quantiles", "exemplars",
    }
)  # fmt: skip
"""Fields of RowEvent that stand in place of a value."""
Odd = msgspec.defstruct("Odd", [(field.name, field.type, None) for field in ODD], rename="camel")
"""Members of an odd point."""

_ORG = msgspec.json.Decoder(Org)
_DEVICE = msgspec.json.Decoder(Device)
_SCOPE = msgspec.json.Decoder(ScopeOf)
_METRIC = msgspec.json.Decoder(MetricOf)
_POINT = msgspec.json.Decoder(Point)
_ODD = msgspec.json.Decoder(Odd)
_NONE = Point()


def orgs(pieces: Iterable[bytes]) -> list[Org]:
    """Organizations."""
    return [_ORG.decode(piece[:-1] + b"}") for piece in pieces]


def devices(pieces: Iterable[bytes]) -> list[Device]:
    """Resources."""
    return [_DEVICE.decode(b"{%b}" % piece[:-1]) for piece in pieces]


def scopes(pieces: Iterable[bytes]) -> list[ScopeOf]:
    """Scopes."""
    return [_SCOPE.decode(b"{%b}" % piece[:-1]) for piece in pieces]


def metrics(pieces: Iterable[bytes]) -> list[MetricOf]:
    """Metrics."""
    return [_METRIC.decode(b"{%b}" % piece[:-1]) for piece in pieces]


def points(pieces: Iterable[bytes]) -> list[Point]:
    """Attributes."""
    return [_POINT.decode(b"{" + piece[1:]) if len(piece) > 2 else _NONE for piece in pieces]  # noqa: PLR2004 - `}\n`


def odd(body: bytes) -> Odd:  # type: ignore[valid-type]
    """What stands in place of a value."""
    return _ODD.decode(b"{%b}" % body)


def times(pieces: Iterable[bytes]) -> list[tuple[str, int, int | None]]:
    """Times as (ts, tsUnixMs, startTsUnixMs): `"ts":"…","tsUnixMs":…,"startTsUnixMs":…,"value":`."""
    found = []
    for piece in pieces:
        ms, _, rest = piece[43:].partition(b",")
        start = int(rest[16:].partition(b",")[0]) if rest.startswith(b'"startTs') else None
        found.append((piece[6:30].decode(), int(ms), start))
    return found
