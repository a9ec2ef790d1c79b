"""The protobuf twin of an OTLP/JSON bundle, by google.protobuf's own reader of JSON."""

import base64
import json
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData


def to_proto(bundle: bytes) -> bytes:
    """The same bundle in protobuf. Only for bundles that both can say: no wrong types, nothing out of range."""
    return ParseDict(plain(json.loads(bundle)), MetricsData(), ignore_unknown_fields=True).SerializeToString()


def plain(value: Any) -> Any:
    """Ids in base64, as proto3 JSON wants bytes; OTLP/JSON has them in hex."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(inner)).decode() if key in ("traceId", "spanId") and inner else plain(inner)
        for key, inner in value.items()
    }
