"""Bundles, records, rows, packs and dead letters to test parts with: ordinary ones, and what senders think of."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import structs

from lmstream.delivery.packing import requests
from lmstream.engine import Engine
from lmstream.interfaces import Limits
from lmstream.model import DeadLetter, Identity, Pack, Record
from lmstream.settings import Settings

SETTINGS: Final = Settings(org_id="acme")
"""Of the engine that makes the sample rows."""
NS: Final = 1_715_263_558_360_000_000
"""Time of the first point: 2024-05-09T14:05:58.360Z."""
HOSTILE: Final = (
    "../../etc/passwd",
    "a/b\\c",
    "new\nline",
    "nul\x00",
    '","orgId":"evil',
    "x" * 600,
    "\u2028 \U0001f600",
)
"""Names and texts that must come out as they went in, and leave no folder and no field."""
JUNK: Final = b"junk"
"""Not a bundle."""


def bundle(points: int = 1, *, metrics: int = 1, bad: int = 0, pad: str = "", name: str = "cpu") -> bytes:
    """A bundle in OTLP/JSON: so many points over so many metrics, then `bad` ones, which have two values each. `pad` is
    an attribute of every point."""
    found: list[list[dict[str, Any]]] = [[] for _ in range(max(1, metrics))]
    extra = [{"key": "pad", "value": {"stringValue": pad}}] if pad else []
    for at in range(points + bad):
        point: dict[str, Any] = {"timeUnixNano": str(NS + at * 10**9), "asDouble": at + 0.5, "attributes": extra}
        if at >= points:
            point["asInt"] = "7"
        found[at % len(found)].append(point)
    named = [{"name": f"{name}{at or ''}", "gauge": {"dataPoints": some}} for at, some in enumerate(found) if some]
    resource = {"attributes": [{"key": "host.name", "value": {"stringValue": "web-1"}}]}
    scope = {"scope": {"name": "WinCPU"}, "metrics": named}
    return json.dumps({"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]}).encode()


def record(offset: int, value: bytes | None, *, partition: int = 0, topic: str = "t") -> Record:
    """A record of the sample topic."""
    return Record(topic=topic, partition=partition, offset=offset, value=value)


def lines_of(engine: Engine, each: Record) -> list[bytes]:
    """The rows that a record becomes, each with its newline; none of a record that cannot be decoded."""
    if each.value is None or each.value == JUNK:
        return []
    return engine.fan_out(each).ndjson().splitlines(keepends=True)


def dimensions_of(engine: Engine, each: Record) -> list[bytes]:
    """The dimension rows that these rows need, each with its newline."""
    if each.value is None or each.value == JUNK:
        return []
    return [needed.line for needed in engine.fan_out(each).dimensions]


def packs(limits: Limits, count: int = 20, *, first: int = 0) -> list[Pack]:
    """So many packs of two rows, or of one where a pack takes no more, that no two of have a row in common."""
    engine = Engine(SETTINGS)
    rows = min(2, limits.pack_rows)
    return [_pack(engine, limits, first + n, bundle(rows, name=_name(first + n))) for n in range(count)]


def full_request(limits: Limits, most: int = 4 << 20) -> Sequence[Pack]:
    """A request about as large as the limits allow, or `most` bytes: some large packs, then small ones up to the number
    of packs or the bytes."""
    engine = Engine(SETTINGS)
    bytes_left = min(limits.request_bytes, most)
    large = max(10, min(limits.pack_bytes - 2_000, bytes_left // 4, 300_000))
    sizes = [large, large, *[10] * min(limits.request_packs, bytes_left // 300)]
    made = [_pack(engine, limits, 1_000_000 + n, bundle(1, pad="p" * size)) for n, size in enumerate(sizes)]
    return requests(made, structs.replace(limits, request_bytes=bytes_left))[0]


def letters(count: int = 3) -> Iterator[DeadLetter]:
    """Ordinary dead letters, of one partition each."""
    for n in range(count):
        yield DeadLetter(
            topic="lm.metrics", partition=n, offset=7 + n, timestamp=5, value=b"junk %d" % n, reason="decode.json",
            code="LMS-1002", detail="malformed", sha256=f"{n:064x}", version="0",
        )  # fmt: skip


def odd_letters() -> Sequence[DeadLetter]:
    """Dead letters whose topics, bytes and words are hostile, or that have all that a letter can."""
    usual = {"partition": 0, "reason": "decode.json", "code": "LMS-1002"}
    topics = [DeadLetter(topic=name, offset=n, value=b"x", **usual) for n, name in enumerate(HOSTILE)]  # type: ignore[arg-type]
    values = [None, b"", bytes(range(256)), b"x" * 200_000]
    full = DeadLetter(
        topic="lm", partition=2**31 - 1, offset=2**63 - 1, timestamp=-1, value=b"v", key=b"\xff", points=9,
        headers=(("h", b"\xff\x00"), ("\ufffd", None)), header_keys=((1, b"\xff"),), reason="value.two",
        code="LMS-1104", detail="\u2028 of " + HOSTILE[4], rejected=((3, "value.two"), (5, "acme.own")),
        parts=(("$.resourceMetrics[0]", "decode.type"),), names="any", rows=True,
        identity=Identity("files", 0, 0, -5), sha256="00", version="0",
    )  # fmt: skip
    return [
        *topics,
        *(DeadLetter(topic="values", offset=n, value=value, **usual) for n, value in enumerate(values)),  # type: ignore[arg-type]
        full,
    ]


def large_letter(size: int) -> DeadLetter:
    """A letter of about so many bytes, and no more, as a line of JSON."""
    value = bytes(max(0, (size - 10_000) * 3 // 4))
    return DeadLetter(topic="large", partition=0, offset=0, value=value, reason="decode.json", code="LMS-1002")


def _name(number: int) -> str:
    return HOSTILE[number % len(HOSTILE)] if number % 3 == 0 else f"metric{number % 4}"


def _pack(engine: Engine, limits: Limits, offset: int, value: bytes) -> Pack:
    group = engine.fan_out(record(offset, value)).groups[0]
    return Pack(group.data, group.rows, group.path if limits.by_path else "", ((offset, group.rows),))


def odd_bundles() -> Iterator[bytes]:
    """Bundles with rows of every kind: with all that a row can have and with the least, numbers at their bounds,
    hostile texts in every place."""
    for text in (*HOSTILE, "", "a"):
        named = {"name": text, "version": text, "attributes": _attributes({text: text, "epoch": "1715263558360"})}
        resource = {"attributes": _attributes({"host.name": text, "hostId": text, text: text})}
        metrics = [
            {"name": text, "unit": text, kind: {"dataPoints": points}} for kind, points in _odd_points(text).items()
        ]
        scopes = [{"scope": named, "metrics": metrics}, {"metrics": metrics}]
        whole = [{"resource": resource, "scopeMetrics": scopes}, {"scopeMetrics": scopes}]
        yield json.dumps({"resourceMetrics": whole}).encode()


def _odd_points(text: str) -> dict[str, list[dict[str, Any]]]:
    """By kind of metric."""
    extra = _attributes({text: text, "dataSourceInstanceName": text})
    bare: dict[str, Any] = {"timeUnixNano": str(NS)}
    point = bare | {"startTimeUnixNano": str(NS - 10**9), "attributes": extra}
    exemplars = {"exemplars": [bare | {"asDouble": 1.5, "filteredAttributes": extra}]}
    values: list[dict[str, Any]] = [{"asInt": str(value)} for value in (-(2**63), 2**63 - 1)]
    values += [{"asDouble": value} for value in (-0.0, 5e-324, sys.float_info.max)]
    counts = {"count": "3", "sum": 1.5, "min": -1.0, "max": 2.0}
    buckets = {"bucketCounts": ["1", "2"], "explicitBounds": [0.5]}
    sides = {"scale": 2, "zeroCount": "1", "zeroThreshold": 0.1, "positive": {"offset": -1, "bucketCounts": ["2"]}}
    quantiles = {"count": "2", "sum": 3.0, "quantileValues": [{"quantile": 0.5, "value": 1.0}]}
    return {
        "gauge": [*(point | value | exemplars for value in values), bare | {"asInt": "1"}],
        "sum": [*(point | value for value in values), bare | {"asDouble": 0.1}],
        "histogram": [point | counts | buckets | exemplars, bare | {"count": "0"}],
        "exponentialHistogram": [point | counts | sides, bare | {"count": "0", "scale": 0}],
        "summary": [point | quantiles, bare | {"count": "0"}],
    }


def _attributes(texts: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": text}} for name, text in texts.items()]
