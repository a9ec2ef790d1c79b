"""Heads of metrics in plain OTLP/JSON bundles: see plain_bundles."""

from typing import Final

import msgspec
from msgspec import ValidationError

from lmstream.codecs.fragments import ENUM, Heads
from lmstream.codecs.json_schema import MetricMessage, NumberPoint
from lmstream.interfaces import Metric

_decode: Final = msgspec.json.Decoder(MetricMessage[NumberPoint], strict=False).decode


def head(heads: Heads, raw: bytes) -> Metric:
    """The head of a gauge or sum from its bytes without points. Raises msgspec's DecodeError for what the codec reads
    another way."""
    metric = _decode(raw)
    total = metric.sum
    if (metric.gauge is None) is (total is None) or not (
        metric.histogram is metric.exponentialHistogram is metric.summary
    ):
        raise ValidationError("Expected a gauge or a sum")
    if total is None:
        return heads[metric.name, metric.unit, "gauge", 0, False]
    temporality, monotonic = total.aggregationTemporality, total.isMonotonic
    if type(temporality) is not int or temporality not in ENUM or type(monotonic) is not bool:
        raise ValidationError("Expected a number and a boolean")
    return heads[metric.name, metric.unit, "sum", temporality, monotonic]
