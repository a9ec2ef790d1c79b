"""A floor, no baseline: what msgspec takes to decode a bundle into typed objects, before anything is made of it."""

import msgspec

from lmstream.model import Record


class _Typed(msgspec.Struct, gc=False, rename="camel"):
    """Untracked by the collector: nothing here can form a cycle, and tracking costs a quarter more."""


class _AnyValue(_Typed):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: str | None = None
    double_value: float | None = None


class _KeyValue(_Typed):
    key: str
    value: _AnyValue


class _Point(_Typed):
    time_unix_nano: str
    start_time_unix_nano: str = "0"
    as_double: float | None = None
    as_int: str | None = None
    attributes: list[_KeyValue] = []


class _Data(_Typed):
    data_points: list[_Point]
    aggregation_temporality: int = 0
    is_monotonic: bool = False


class _Metric(_Typed):
    name: str
    unit: str = ""
    gauge: _Data | None = None
    sum: _Data | None = None


class _Scope(_Typed):
    name: str = ""
    version: str = ""
    attributes: list[_KeyValue] = []


class _ScopeMetrics(_Typed):
    scope: _Scope
    metrics: list[_Metric]


class _Resource(_Typed):
    attributes: list[_KeyValue] = []


class _ResourceMetrics(_Typed):
    resource: _Resource
    scope_metrics: list[_ScopeMetrics]


class _Bundle(_Typed):
    resource_metrics: list[_ResourceMetrics]


_decode_typed = msgspec.json.Decoder(_Bundle).decode


def typed_decode(record: Record) -> None:
    """Decode every field of the bundle; nothing is made of them."""
    _decode_typed(record.value)
