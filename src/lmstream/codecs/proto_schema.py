"""A lazy protobuf schema: OTLP's own descriptors, with the parts that repeat left as bytes.

Parsing stops at resources, scopes, data points and attribute values; each is parsed on a cache miss, one level at a
time, so that our bound on depth holds and not the parser's. Fields so changed are repeated: a singular message that
comes twice on the wire is to be merged: joining the bytes is how protobuf does it (encoding guide, "Last One Wins").
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1 import resource_pb2

_LAZY: Final = {
    "KeyValue": ("value",),
    "ArrayValue": ("values",),
    "ResourceMetrics": ("resource",),
    "ScopeMetrics": ("scope",),
    **dict.fromkeys(("Gauge", "Sum", "Histogram", "ExponentialHistogram", "Summary"), ("data_points",)),
}


_LABELLED: Final = ("NumberDataPoint", "HistogramDataPoint", "SummaryDataPoint")
"""Points that had labels in field 1 up to OTLP 0.11; exponential histograms are younger. Reserved today."""

_WHOLE: Final = "lmstream.whole"
"""Package of a second, whole copy of the attribute messages, for fields that we ignore: parsing checks their text."""


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    whole = descriptor_pb2.FileDescriptorProto.FromString(common_pb2.DESCRIPTOR.serialized_pb)
    package, whole.package, whole.name = whole.package, _WHOLE, "lmstream/whole.proto"
    for message in whole.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(f".{package}.", f".{_WHOLE}.")
    pool.Add(whole)
    for module in (common_pb2, resource_pb2, metrics_pb2, metrics_service_pb2):
        file = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        if module is metrics_pb2:
            file.dependency.append(whole.name)
        for message in file.message_type:
            _made_lazy(message)
        pool.Add(file)
    return pool


def _made_lazy(message: descriptor_pb2.DescriptorProto) -> None:
    if message.name in _LABELLED:
        del message.reserved_range[:]
        _make_bytes(message.field.add(name="labels", number=1))
    for field in message.field:
        if field.name in _LAZY.get(message.name, ()):
            _make_bytes(field)
            field.ClearField("type_name")
        elif (message.name, field.name) == ("Metric", "metadata"):
            field.type_name = f".{_WHOLE}.KeyValue"


def _make_bytes(field: descriptor_pb2.FieldDescriptorProto) -> None:
    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    field.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED


_POOL: Final = _pool()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"opentelemetry.proto.{name}"))


Request: Final = _message("collector.metrics.v1.ExportMetricsServiceRequest")
MetricMessage: Final = _message("metrics.v1.Metric")
ResourceMessage: Final = _message("resource.v1.Resource")
ScopeMessage: Final = _message("common.v1.InstrumentationScope")
AnyValueMessage: Final = _message("common.v1.AnyValue")
NumberPoint: Final = _message("metrics.v1.NumberDataPoint")
KeyValueMessage: Final = _message("common.v1.KeyValue")
POINTS: Final[dict[str, Any]] = {
    "gauge": NumberPoint,
    "sum": NumberPoint,
    "histogram": _message("metrics.v1.HistogramDataPoint"),
    "exponential_histogram": _message("metrics.v1.ExponentialHistogramDataPoint"),
    "summary": _message("metrics.v1.SummaryDataPoint"),
}
