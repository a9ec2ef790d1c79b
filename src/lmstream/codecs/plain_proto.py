"""Heads of metrics in plain OTLP/protobuf bundles: see plain_bundles."""

from lmstream.codecs.fragments import ENUM, Heads
from lmstream.codecs.proto_schema import MetricMessage
from lmstream.errors import DecodeError
from lmstream.interfaces import Metric


def head(heads: Heads, raw: bytes) -> Metric:
    """The head of a gauge or sum from its bytes without points, which are a metric too. Raises DecodeError or
    protobuf's for what the codec reads another way."""
    metric = MetricMessage.FromString(raw)
    if metric.WhichOneof("data") == "gauge":
        return heads[metric.name, metric.unit, "gauge", 0, False]
    total = metric.sum
    if total.aggregation_temporality not in ENUM:
        raise DecodeError("decode.protobuf", "a temporality that OTLP has not")
    return heads[metric.name, metric.unit, "sum", total.aggregation_temporality, total.is_monotonic]
