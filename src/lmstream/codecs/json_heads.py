"""What is wrong with the head of a resource, scope or metric in OTLP/JSON, and a bundle without what cannot be read."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct, ValidationError

from lmstream.codecs import fragments
from lmstream.codecs.json_schema import Data, MetricMessage, Request, ResourceMetrics, ScopeMetrics
from lmstream.codecs.json_unknown import MESSAGES_MAX, NOTHING, decode_list
from lmstream.codecs.json_values import attributes, boolean, integer
from lmstream.codecs.json_walk import Entry, below, place, said, sent, token, walk
from lmstream.errors import DecodeError
from lmstream.interfaces import PARTS, LostPart, Series


class _Key(Struct, gc=False):
    key: str | None = ""


_BLANK: Final = Raw(b"{}")
"""Keeps the place of a point that is not read."""
_ENUM_PREFIX: Final = "AGGREGATION_TEMPORALITY_"
_decode_text: Final = msgspec.json.Decoder(str | None).decode
_decode_key: Final = msgspec.json.Decoder(_Key).decode
_decode_any: Final = msgspec.json.Decoder(Any).decode

HeadFault = Callable[[str, Raw], "Fault | None"]
"""Says what is wrong with the resource or scope at a path."""


class Fault(NamedTuple):
    """Why the points under a resource, scope or metric are refused."""

    reason: str
    detail: str


def attributes_fault(raw: Raw, path: str) -> Fault | None:
    """What is wrong with attributes: which of them, and its key."""
    try:
        attributes(bytes(raw))
    except DecodeError as error:
        return Fault(error.reason, f"{path}: {error.detail}")
    except ValidationError as error:
        whole = place(path, error)
    else:
        return None
    try:
        items = decode_list(raw) or ()
    except ValidationError:
        return Fault("decode.type", f"{whole}, saw {token(raw)}")
    for at, item in enumerate(items):
        try:
            attributes(b"[%b]" % bytes(item))
        except ValidationError as error:
            where = f"{path}[{at}]{below(error).removeprefix('[0]')}{_key(item)}"
            return Fault("decode.type", f"{where}: {said(error)}, saw {token(item)}")
    return Fault("decode.type", whole)


def _key(item: Raw) -> str:
    try:
        key = _decode_key(item).key
    except ValidationError:
        return ""
    return f" (key {key or ''!r:.100})"


def head_fault(path: str, raw: Raw, read: Callable[[bytes], Any], decode: Callable[[bytes], Any]) -> Fault | None:
    """What is wrong with a resource or scope. `read` makes its piece, `decode` its message."""
    try:
        read(bytes(raw))
    except DecodeError as error:
        if error.reason not in fragments.HEADS:
            raise
        try:
            found = decode(bytes(raw))
        except ValidationError as wrong:
            return Fault("decode.type", f"{place(path, wrong)}, saw {token(raw)}")
        return attributes_fault(found.attributes, f"{path}.attributes") or Fault(
            error.reason, f"{path}: {error.detail}"
        )
    return None


def metric_fault(entry: Entry) -> Fault | None:
    """What is wrong with the head of a metric."""
    metric, path = entry.metric, entry.path
    if metric is None:
        return None
    for member in ("name", "unit"):
        raw = getattr(metric, member)
        try:
            if raw is not NOTHING:
                _decode_text(raw)
        except ValidationError as error:
            return Fault("decode.type", f"{path}.{member}: {said(error)}, saw {token(raw)}")
    kinds = [kind for kind in fragments.KINDS if sent(getattr(metric, kind))]
    if len(kinds) > 1:
        return Fault("decode.type", f"{path} is a {kinds[0]} and a {kinds[1]}: a metric has one kind")
    for kind, data, _ in entry.kinds:
        if kind not in ("gauge", "summary") and temporality_of(data) is None:
            where = f"{path}.{kind}.aggregationTemporality"
            return Fault("decode.type", f"{where}: {token(data.aggregationTemporality)} is not a number of the enum")
        try:
            if kind == "sum":
                boolean(data.isMonotonic)
        except ValidationError:
            where = f"{path}.{kind}.isMonotonic"
            return Fault("decode.type", f"{where}: {token(data.isMonotonic)} is not a boolean")
    return None


def temporality_of(data: Any) -> int | str | None:
    """The aggregationTemporality as sent, a number or a name of the enum; None when it is neither."""
    raw = data.aggregationTemporality
    try:
        value = _decode_any(raw) if sent(raw) else 0
        if isinstance(value, str):
            return value if known_name(value) is not None else None
        return None if isinstance(value, bool) else integer(raw) or 0
    except ValidationError:
        return None


def known_name(name: str) -> int | None:
    """The number of a temporality that is written as its name."""
    short = name.removeprefix(_ENUM_PREFIX).lower()
    known = name.startswith(_ENUM_PREFIX) and short in fragments.TEMPORALITIES
    return fragments.TEMPORALITIES.index(short) if known else None


def metric_name(metric: Any) -> str:
    """A metric's name, as messages show it."""
    try:
        name = _decode_text(metric.name) if metric is not None and metric.name is not NOTHING else ""
    except ValidationError:
        return "a metric without a readable name"
    return f"metric {name or ''!r:.100}"


class Judged(NamedTuple):
    """An entry of the walk, and what is wrong above it."""

    entry: Entry
    fault: Fault | None
    bad_resource: bool
    bad_scope: bool


def judged(payload: bytes, resource_fault: HeadFault, scope_fault: HeadFault) -> Iterator[Judged | LostPart]:
    """The walk, each resource and scope looked at once. The first fault from outside in decides."""
    resource = scope = None
    seen = False
    here: Any = None
    above: Any = None
    for entry in walk(payload):
        if isinstance(entry, LostPart):
            yield entry
            continue
        if entry.resource is not here:
            here, above, scope = entry.resource, None, None
            resource = resource_fault(*here)
        if entry.scope is not None and entry.scope is not above:
            above = entry.scope
            scope = scope_fault(*above)
        fault = resource or scope
        if fault is None and (not seen or any(raws for *_, raws in entry.kinds)):
            fault = metric_fault(entry)  # of metrics without points only the first that is bad matters
        seen = seen or fault is not None
        yield Judged(entry, fault, resource is not None, scope is not None)


class Cleaned(NamedTuple):
    """A bundle without what cannot be read, and what that was."""

    request: Request[Raw]
    faults: dict[int, Fault]
    """By ordinal, points under a bad head: they keep their place, as points of nothing."""
    lost: list[LostPart]
    points: int
    first: Fault | None
    """What was wrong first."""


def clean(payload: bytes, resource_fault: HeadFault, scope_fault: HeadFault) -> Cleaned:
    """Take out of a bundle what cannot be read."""
    resources: list[ResourceMetrics[Raw]] = []
    made = Cleaned(Request(resourceMetrics=resources), {}, [], 0, None)
    first: Fault | None = None
    ordinal = 0
    entries = 0
    for found in judged(payload, resource_fault, scope_fault):
        if isinstance(found, LostPart):
            made.lost.append(found)
            first = first or Fault(found.reason, found.detail)
            if len(made.lost) > PARTS:
                raise DecodeError(found.reason, f"more than {PARTS:,} parts that cannot be read; {first.detail}")
            continue
        entries += 1
        if entries > MESSAGES_MAX:
            raise DecodeError(
                "limits.points", f"more than {MESSAGES_MAX:,} resources, scopes and metrics, some unreadable"
            )
        entry, fault, *_ = found
        first = first or fault
        if entry.scope is None:
            resources.append(
                ResourceMetrics(resource=NOTHING if found.bad_resource else entry.resource[1], scopeMetrics=[])
            )
            continue
        scopes: Any = resources[-1].scopeMetrics
        if entry.metric is None:
            scopes.append(ScopeMetrics(scope=NOTHING if found.bad_scope else entry.scope[1], metrics=[]))
            continue
        metrics: Any = scopes[-1].metrics
        points = sum(len(raws) for *_, raws in entry.kinds)
        if points or not (made.lost and made.lost[-1].path.startswith(f"{entry.path}.")):
            metrics.append(_metric(entry, blank=fault is not None))
        if fault:
            made.faults.update(dict.fromkeys(range(ordinal, ordinal + points), fault))
        ordinal += points
    return made._replace(first=first, points=ordinal)


def _metric(entry: Entry, *, blank: bool) -> MetricMessage[Raw]:
    """The metric as the quick way wants it. With `blank`, of all kinds together, points that are not to be read."""
    if not entry.kinds:
        return MetricMessage()
    kind, data, raws = entry.kinds[0]
    if blank:
        blanks: Any = Data(dataPoints=[_BLANK] * sum(len(more) for *_, more in entry.kinds))
        return MetricMessage(**{kind: blanks})
    temporality = temporality_of(data) if kind not in ("gauge", "summary") else 0
    monotonic = boolean(data.isMonotonic) if kind == "sum" else None
    held: Any = Data(dataPoints=raws, aggregationTemporality=temporality or 0, isMonotonic=bool(monotonic))
    metric: Any = entry.metric
    texts = {name: _decode_text(getattr(metric, name)) for name in ("name", "unit") if sent(getattr(metric, name))}
    return MetricMessage(**texts, **{kind: held})


def parted(series: Series, faults: dict[int, Fault]) -> Iterator[Series]:
    """A series cut where points under a bad head begin and end: these note nothing of resource and scope."""
    for bad, run in groupby(range(series.start, series.stop), faults.__contains__):
        ordinals = list(run)
        heads = (fragments.NO_RESOURCE, fragments.NO_SCOPE) if bad else (series.resource, series.scope)
        yield Series(*heads, ordinals[0], ordinals[-1] + 1)


def temporality_number(value: int | str | None, noted: dict[str, int]) -> int:
    """The enum's number. OTLP/JSON wants numbers; senders write names all the same: taken, and counted, as are numbers
    that it has not, which are unspecified."""
    if value is None or value in fragments.ENUM:
        return int(value or 0)
    number = known_name(value) if isinstance(value, str) else 0
    if number is None:
        raise ValidationError("Expected a number of the enum")
    what = "enum.name" if isinstance(value, str) else "enum.unknown"
    noted[what] = noted.get(what, 0) + 1
    return number
