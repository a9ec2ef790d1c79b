"""Look at protobuf that is no metrics bundle: whose it is, where it is cut, where its text is no UTF-8.

Structure alone decides, by OTLP's field numbers and wire types, so that a host without the other signals' classes says
the same. Bounded: a few messages of each level, a number of fields in all.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from lmstream.codecs.proto_limits import varint

_SIGNALS: Final[dict[str, dict[int, int]]] = {
    # opentelemetry-proto v1: number of a field and its wire type, of Span, LogRecord and Profile.
    "traces": {**dict.fromkeys((1, 2, 3, 4, 5, 9, 11, 13, 15), 2), 6: 0, 7: 1, 8: 1, 10: 0, 12: 0, 14: 0, 16: 5},
    "logs": {1: 1, 2: 0, 3: 2, 5: 2, 6: 2, 7: 0, 8: 5, 9: 2, 10: 2, 11: 1, 12: 2},
    "profiles": {1: 2, 2: 2, 3: 1, 4: 0, 5: 2, 6: 0, 7: 2, 8: 0, 9: 2, 10: 2, 11: 2},
}
_METRIC: Final = dict.fromkeys((1, 2, 3, 5, 7, 9, 10, 11, 12), 2)
_DATA: Final = (5, 7, 9, 10, 11)
_ANY_VALUE: Final = {1: 2, 2: 0, 3: 0, 4: 1, 5: 2, 6: 2, 7: 2, 8: 0}
_DICTIONARY: Final = dict.fromkeys(range(1, 8), 2)
_TABLE: Final = 5  # of strings, in a dictionary of profiles
_TRACE_ID, _SPAN_ID = 16, 8  # bytes
_START: Final = 7  # of a span
_FEW: Final = 8
"""Messages of one level that are looked at."""
_FIELDS: Final = 4096
"""Fields of one message that are looked at."""
_ALL_FIELDS: Final = 50_000
"""Fields that are looked at in search of a text: some 0.2 s."""
_TAGS: Final = range(1, 1 << 29)
_LENGTHS: Final = {1: 8, 5: 4}


class Field(NamedTuple):
    """One field on the wire, and where its content is."""

    number: int
    wire: int
    start: int
    stop: int


class Fields(NamedTuple):
    """The fields of a message, as far as they can be walked."""

    found: list[Field]
    whole: bool
    """Whether that is all of it."""
    at: int
    """Where the walk ended."""

    def fit(self, schema: dict[int, int]) -> bool:
        return self.whole and bool(self.found) and all(schema.get(each.number) == each.wire for each in self.found)

    def inner(self, number: int) -> list[Field]:
        return [each for each in self.found if each.number == number and each.wire == 2]  # noqa: PLR2004 - with a length


def signal(data: bytes) -> str:
    """The OTLP signal that the protobuf is: traces, logs or profiles. Empty when it is not clearly one of them."""
    request = walk(data)
    if any(_is_dictionary(data, table) for table in request.inner(2)[:_FEW]):
        return "profiles"
    for fields in _leaves(data, request):
        if _is_metric(data, fields):
            return ""
        if found := _signal_of(data, fields):
            return found
    return ""


def bare(data: bytes) -> str:
    """The part of a metrics bundle that the protobuf is, without what belongs around it; empty when it is none."""
    top = walk(data)
    if _is_metric(data, top):
        return "Metric"
    for inner in top.inner(2)[:_FEW]:
        fields = walk(data, inner)
        if _is_metric(data, fields):
            return "ScopeMetrics"
        if any(_is_metric(data, walk(data, metric)) for metric in fields.inner(2)[:_FEW]):
            return "ResourceMetrics"
    return ""


def is_bundle(data: bytes) -> bool:
    """Whether the protobuf holds a metric with a data point where a bundle has it."""
    return any(_is_metric(data, fields) for fields in _leaves(data, walk(data)))


def _leaves(data: bytes, request: Fields) -> Iterator[Fields]:
    """Metrics of a request, or what other signals have in their place."""
    for resource in request.inner(1)[:_FEW]:
        for scope in walk(data, resource).inner(2)[:_FEW]:
            yield from (walk(data, leaf) for leaf in walk(data, scope).inner(2)[:_FEW])


def cut(data: bytes) -> str:
    """How a bundle is cut, in words; empty when it does not end inside a resource_metrics."""
    fields = walk(data)
    last = fields.found[-1] if fields.found else None
    if last is None or fields.whole or last.stop <= len(data) or last.number != 1:
        return ""
    wanted, there = last.stop - last.start, len(data) - last.start
    return f"resourceMetrics[{len(fields.inner(1)) - 1}] has {there:,} of its {wanted:,} bytes"


def bad_text(data: bytes) -> str:
    """Where text of a metrics bundle is no UTF-8: its path and byte. Empty when that is not found."""
    try:
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2  # noqa: PLC0415 - only where it is installed
    except ImportError:
        return ""
    todo: list[tuple[Any, Field, str]] = [
        (metrics_service_pb2.ExportMetricsServiceRequest.DESCRIPTOR, Field(0, 2, 0, len(data)), "$")
    ]
    left = _ALL_FIELDS
    while todo:
        message, place, path = todo.pop()
        inner: list[tuple[Any, Field, str]] = []
        seen: dict[int, int] = {}
        for field in walk(data, place, left).found:
            left -= 1
            known = message.fields_by_number.get(field.number)
            if known is None or field.wire != 2:  # noqa: PLR2004 - with a length
                continue
            at = seen[field.number] = seen.get(field.number, -1) + 1
            where = f"{path}.{known.camelcase_name}" + (f"[{at}]" if known.is_repeated else "")
            if known.message_type is not None:
                inner.append((known.message_type, field, where))
            elif known.type == known.TYPE_STRING:
                try:
                    data[field.start : field.stop].decode()
                except UnicodeDecodeError as error:
                    return f"{where} is no UTF-8 at byte {field.start + error.start:,}"
        todo += reversed(inner)
        if left <= 0:
            break
    return ""


def walk(data: bytes, place: Field | None = None, most: int = _FIELDS) -> Fields:
    """The fields of a message: all of the data, or the field given. One that ends behind the message is the last."""
    at, end = (0, len(data)) if place is None else (place.start, min(place.stop, len(data)))
    found: list[Field] = []
    for field in _fields(data, at, end):
        found.append(field)
        at = field.stop
        if at > end or len(found) >= most:
            break
    return Fields(found, at == end, at)


def _fields(data: bytes, at: int, end: int) -> Iterator[Field]:
    while at < end:
        tag, at = varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number not in _TAGS or at > end:
            return
        start = at
        if wire == 0:
            _, at = varint(data, at, end)
        elif wire == 2:  # noqa: PLR2004 - with a length
            length, start = varint(data, at, end)
            at = start + length
        elif wire in _LENGTHS:
            at += _LENGTHS[wire]
        else:
            return
        if start > end:
            return
        yield Field(number, wire, start, at)


def _is_dictionary(data: bytes, place: Field) -> bool:
    """Whether it is a ProfilesDictionary. Its first text is empty, as profiles.proto demands."""
    fields = walk(data, place)
    texts = fields.inner(_TABLE)
    return fields.fit(_DICTIONARY) and bool(texts) and texts[0].start == texts[0].stop


def _is_metric(data: bytes, fields: Fields) -> bool:
    """Whether it is a metric with a data point: one that has a time, a value or a count of eight bytes."""
    if not fields.fit(_METRIC):
        return False
    for number in _DATA:
        for body in fields.inner(number)[:_FEW]:
            for point in walk(data, body).inner(1)[:_FEW]:
                inside = walk(data, point)
                if inside.whole and any(each.wire == 1 for each in inside.found):
                    return True
    return False


def _signal_of(data: bytes, fields: Fields) -> str:
    """The signal of one span, log record or profile."""
    if fields.fit(_SIGNALS["traces"]):
        ids = [data[each.start : each.stop] for number in (1, 2) for each in fields.inner(number)]
        # A metric may have a name and a description of as many letters, but no start.
        if list(map(len, ids)) == [_TRACE_ID, _SPAN_ID] and (
            any(each.number == _START for each in fields.found) or not b"".join(ids).isascii()
        ):
            return "traces"
    if fields.fit(_SIGNALS["logs"]):
        body = fields.inner(5)
        if any(each.wire == 1 for each in fields.found) or (body and walk(data, body[-1]).fit(_ANY_VALUE)):
            return "logs"
    return ""
