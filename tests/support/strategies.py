"""OTLP bundles for hypothesis: google.protobuf messages, and an encoder that says them as OTLP/JSON in many ways."""

import base64
import json
import math
import random
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

HOSTILE = (
    'x","orgId":"evil',
    '"',
    "\\",
    "a\nb",
    "\x00",
    "\x7f\u2028\u2029",
    "../../etc",
    "/",
    ".",
    "..",
    "-rf",
    "_other",
    "é",
    "\U0001f600" * 3,
    "\u202egnp.exe",
    "a" * 128,
    "a" * 129,
    "ü" * 200,
    "=1+1",
    "%2F",
    "{}",
    "CpuUsage",
    "p-1.x_2",
)
TEXT = st.one_of(st.text(max_size=12), st.sampled_from(HOSTILE))
KEYS = st.one_of(
    TEXT,
    st.sampled_from(
        ["hostName", "hostId", "host.id", "host.name", "service.name", "service.instance.id", "tenant", "org"]
    ),
    st.sampled_from(["dataSourceInstanceName", "wildValue", "epoch", "name", "version"]),
)
INT64 = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-3, 300))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ODD_DOUBLES = st.sampled_from([0.0, -0.0, 7.0, 1e16, 5e-324, 42.5, math.nan, math.inf, -math.inf])
DOUBLES = st.one_of(FINITE, FINITE, FINITE, FINITE, ODD_DOUBLES)
GOOD_NS = st.integers(946_684_800_000 * 10**6, 4_133_980_800_000 * 10**6 - 1)
ODD_NS = st.sampled_from([0, 1, 10**18, 1_715_263_558_360_999_999, 2**63, 2**64 - 1])
TIMES = st.one_of(*[GOOD_NS] * 8, ODD_NS)
STARTS = st.one_of(st.just(0), *[GOOD_NS] * 6, ODD_NS)
COUNTS = st.one_of(*[st.integers(0, 1000)] * 15, st.sampled_from([2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]))
FLAGS = st.sampled_from([0] * 12 + [1, 2, 3, 2**32 - 1])


@st.composite
def any_values(draw: Any, depth: int = 2) -> AnyValue:
    """Every kind of value, containers inside containers to `depth`."""
    kinds = ["empty", "string", "string", "bool", "int", "double", "bytes"] + ["array", "kvlist"] * (depth > 0)
    value = AnyValue()
    kind = draw(st.sampled_from(kinds))
    if kind == "string":
        value.string_value = draw(TEXT)
    elif kind == "bool":
        value.bool_value = draw(st.booleans())
    elif kind == "int":
        value.int_value = draw(INT64)
    elif kind == "double":
        value.double_value = draw(DOUBLES)
    elif kind == "bytes":
        value.bytes_value = draw(st.binary(max_size=8))
    elif kind == "array":
        value.array_value.SetInParent()
        value.array_value.values.extend(draw(st.lists(any_values(depth - 1), max_size=3)))
    elif kind == "kvlist":
        value.kvlist_value.SetInParent()
        value.kvlist_value.values.extend(draw(attribute_lists(depth - 1)))
    return value


@st.composite
def attribute_lists(draw: Any, depth: int = 2, most: int = 4) -> list[KeyValue]:
    """Attributes, keys sometimes twice."""
    keys = draw(st.lists(KEYS, max_size=most))
    return [KeyValue(key=key, value=draw(any_values(depth))) for key in keys]


@st.composite
def exemplar_lists(draw: Any) -> list[pb.Exemplar]:
    made = []
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        exemplar = pb.Exemplar(
            time_unix_nano=draw(TIMES),
            trace_id=draw(st.sampled_from([b"", bytes(range(16))])),
            span_id=draw(st.sampled_from([b"", b"\xab\xcd\xef\x01\x02\x03\x04\x05"])),
            filtered_attributes=draw(attribute_lists(1, 2)),
        )
        which = draw(st.sampled_from(["as_int", "as_double", None]))
        if which:
            setattr(exemplar, which, draw(INT64 if which == "as_int" else DOUBLES))
        made.append(exemplar)
    return made


@st.composite
def points(draw: Any, kind: str) -> Any:
    """One data point of a kind: mostly good, sometimes bad in one of the ways that the rules name."""
    common = {
        "attributes": draw(attribute_lists()),
        "time_unix_nano": draw(TIMES),
        "start_time_unix_nano": draw(STARTS),
        "flags": draw(FLAGS),
    }
    if kind in ("gauge", "sum"):
        number = pb.NumberDataPoint(**common, exemplars=draw(exemplar_lists()))
        which = draw(st.sampled_from(["as_int", "as_double"] * 4 + [None]))
        if which:
            setattr(number, which, draw(INT64 if which == "as_int" else DOUBLES))
        return number
    if kind == "summary":
        summary = pb.SummaryDataPoint(**common, count=draw(COUNTS), sum=draw(DOUBLES))
        for quantile, value in draw(st.lists(st.tuples(st.floats(0, 1), DOUBLES), max_size=3)):
            summary.quantile_values.add(quantile=quantile, value=value)
        return summary
    optional = {name: draw(DOUBLES) for name in ("sum", "min", "max") if draw(st.booleans())}
    common |= {**optional, "count": draw(COUNTS), "exemplars": draw(exemplar_lists())}
    if kind == "histogram":
        bounds = draw(st.lists(FINITE, max_size=3))
        many = draw(st.sampled_from([len(bounds) + 1] * 6 + [0, 2]))
        counts = draw(st.lists(COUNTS, min_size=many, max_size=many))
        return pb.HistogramDataPoint(**common, bucket_counts=counts, explicit_bounds=bounds)
    exponential = pb.ExponentialHistogramDataPoint(
        **common,
        scale=draw(st.integers(-(2**31), 2**31 - 1)),
        zero_count=draw(COUNTS),
        zero_threshold=draw(DOUBLES),
    )
    for side in ("positive", "negative"):
        if draw(st.booleans()):
            getattr(exponential, side).offset = draw(st.integers(-(2**31), 2**31 - 1))
            getattr(exponential, side).bucket_counts.extend(draw(st.lists(COUNTS, max_size=3)))
    return exponential


FIELD = {
    "gauge": "gauge",
    "sum": "sum",
    "histogram": "histogram",
    "exponentialHistogram": "exponential_histogram",
    "summary": "summary",
}


@st.composite
def metrics(draw: Any) -> pb.Metric:
    metric = pb.Metric(name=draw(TEXT), unit=draw(st.sampled_from(["", "By", "{x}"])), description=draw(TEXT))
    kind = draw(st.sampled_from([*FIELD, *FIELD, "gauge", "sum", None]))
    if kind is None:
        return metric
    data = getattr(metric, FIELD[kind])
    data.SetInParent()
    if kind in ("sum", "histogram", "exponentialHistogram"):
        data.aggregation_temporality = draw(st.sampled_from([0, 1, 2, 2, 9]))
    if kind == "sum":
        data.is_monotonic = draw(st.booleans())
    data.data_points.extend(draw(st.lists(points(kind), max_size=4)))
    return metric


@st.composite
def bundles(draw: Any) -> pb.MetricsData:
    """A bundle of zero to two resources, each with zero to two scopes, each with zero to three metrics."""
    bundle = pb.MetricsData()
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
        resource = bundle.resource_metrics.add(schema_url=draw(st.sampled_from(["", "https://example.com/s"])))
        if draw(st.integers(0, 5)):
            resource.resource.attributes.extend(draw(attribute_lists()))
        for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
            scope = resource.scope_metrics.add()
            if draw(st.integers(0, 5)):
                scope.scope.name = draw(TEXT)
                scope.scope.version = draw(st.sampled_from(["", "1.2"]))
                scope.scope.attributes.extend(draw(attribute_lists()))
            if not draw(st.integers(0, 3)):
                epoch = draw(st.sampled_from(["1715263558360", "1715263558", "soon", ""]))
                scope.scope.attributes.add(key="epoch").value.string_value = epoch
            scope.metrics.extend(draw(st.lists(metrics(), max_size=3)))
    return bundle


# ---------------------------------------------------------------------------------------------- OTLP/JSON

HEX = {"trace_id", "span_id"}


def has_points(bundle: pb.MetricsData) -> bool:
    """Whether unknown members beside are no reason to refuse it."""
    metrics_of = [m for r in bundle.resource_metrics for s in r.scope_metrics for m in s.metrics]
    return any(m.WhichOneof("data") and len(getattr(m, m.WhichOneof("data")).data_points) for m in metrics_of)


def to_otlp_json(message: Any, rng: random.Random | None = None) -> bytes:
    """The bundle as OTLP/JSON. With `rng`: one of the many texts that mean the same (integers as strings, numbers or
    integral floats, defaults said or not, nulls, spaces, escapes, order of keys; unknown fields if it has points)."""
    rng = rng or random.Random(0)
    return written(_message(message, rng, unknown=0.1 if has_points(message) else 0), rng)


def to_plain(message: Any, rng: random.Random) -> dict[str, Any]:
    """The bundle as a tree of JSON without unknown members, to be damaged."""
    return _message(message, rng, unknown=0)


def written(plain: dict[str, Any], rng: random.Random) -> bytes:
    """A tree as text, in one of many forms."""
    text = json.dumps(
        plain,
        allow_nan=False,
        ensure_ascii=rng.random() < 0.5,
        indent=rng.choice([None, None, 1]),
        separators=rng.choice([None, (",", ":")]),
    )
    return (rng.choice(["", " ", "\r\n\t"]) + text + rng.choice(["", "\n", " \n"])).encode()


def _message(message: Any, rng: random.Random, unknown: float) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        name = field.json_name
        if field.is_repeated:
            values = list(getattr(message, field.name))
            if values or rng.random() < 0.3 or name == "resourceMetrics":
                made[name] = [_value(field, v, rng, unknown) for v in values] if values else rng.choice([[], None])
        elif field.has_presence:
            if message.HasField(field.name):
                made[name] = _value(field, getattr(message, field.name), rng, unknown)
            elif rng.random() < 0.1 and field.name != "string_value_strindex":
                made[name] = None
        else:
            value = getattr(message, field.name)
            said = value != field.default_value or (
                field.cpp_type == field.CPPTYPE_DOUBLE and math.copysign(1, value) < 0
            )
            if said or rng.random() < 0.3:
                made[name] = _value(field, value, rng, unknown) if said or rng.random() < 0.5 else None
    if rng.random() < unknown:
        made["unknownField"] = rng.choice([1, "x", None, {"a": [{"b": [1.5e300, True]}]}, [[[]]]])
    if rng.random() < unknown:
        made["time_unix_nano"] = "12"  # a snake_case name is no name of OTLP/JSON
    items = list(made.items())
    rng.shuffle(items)
    return dict(items)


def _value(field: Any, value: Any, rng: random.Random, unknown: float) -> Any:  # noqa: PLR0911 - one for each type
    if field.cpp_type == field.CPPTYPE_MESSAGE:
        return _message(value, rng, unknown)
    if field.name in HEX:
        return rng.choice([value.hex(), value.hex().upper()])
    if field.type == field.TYPE_BYTES:
        encode = rng.choice([base64.b64encode, base64.urlsafe_b64encode])
        return encode(value).decode().rstrip("=" if rng.random() < 0.3 else " ")
    if field.type == field.TYPE_ENUM:
        return value
    if field.cpp_type == field.CPPTYPE_DOUBLE:
        return _double(value, rng)
    if isinstance(value, int) and not isinstance(value, bool):
        choices = [value, str(value)]
        if abs(value) < 2**53:
            choices += [float(value)] if value else [0.0]
        return rng.choice(choices)
    return value


def _double(value: float, rng: random.Random) -> Any:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 2**53 and math.copysign(1, value) > 0 and rng.random() < 0.5:
        return rng.choice([int(value), str(int(value))])
    return rng.choice([value, value, repr(value)])
