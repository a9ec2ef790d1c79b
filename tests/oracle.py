"""What a record must become, said slowly: the judge of the engine, sharing no code with it.

Written from the design (the row, partitioning, OTLP's rules for JSON, protobuf and AnyValue as text) for clarity, not
speed. `rows(record, settings)` gives a Verdict or raises Refused(reason). oracle_json.py and oracle_proto.py read the
two formats into the plain shapes below; everything after that is one set of rules.

Where the text was silent, these were chosen:
 1. Only white space is `decode.json`: `decode.empty` is for no bytes. White space is JSON's four characters.
 2. What begins with `{`, `[` or `"` is JSON; the rest is protobuf, or JSON after all where protobuf refuses plain ASCII
    text (so that "hello" is `decode.json`, which says more). A line feed is also the protobuf tag of resource_metrics,
    and `{` a length of 123: what begins so and is no JSON is protobuf where it can be.
 3. Protobuf that holds fields but no resource_metrics is `decode.top_level`, as a JSON object without resourceMetrics is;
    so is gzip in gzip `decode.gzip`, and damaged zstd. A value may have several members (RFC 1952) or frames (RFC 8878),
    and zeros or white space after them.
 4. UTF-16/32 without a byte order mark is seen by NUL bytes around the first `{`: `decode.encoding`.
 5. null is the default of a field, but no element of an array (proto3 JSON): there it is a wrong type. A JSON key said
    twice: the last one wins. `-0` without a point or exponent is judged as no test should need.
 6. Known fields that no row uses (description, schemaUrl, metadata, dropped counts) are not judged in JSON, apart from
    UTF-8 and syntax; in protobuf their strings must be UTF-8, as google.protobuf wants it.
 7. A lone surrogate (an escape of half a pair) in a field that is used is `decode.json`, wherever it is.
 8. Unknown JSON may nest to 1,000 brackets; more is `limits.depth`.
 9. Integers outside int64 and doubles outside float64 in an attribute, or in an exemplar, are wrong types; so is base64
    that is none (both alphabets, padding optional) and hex that is none. A negative count, or a scale or offset outside
    int32, is `value.range`; flags outside uint32 are a wrong type.
10. A number in a string follows JSON's grammar: `+7`, `007` and `0x7` are wrong types.
11. A point is judged in this order: wrong type, flags, time (missing, then range of time and start), value (two,
    missing, range, point.shape), the first NaN or infinity in the order of the fields, org, size. Deep nesting refuses
    the bundle, whatever else the point is.
12. The time of an exemplar is any uint64 (0 when absent), else a wrong type. Both values in one, in JSON, is one too.
13. What is noted speaks of the bundle, whatever became of the rows: device.unknown and datasource.unknown once a data
    point, exemplar.value once an exemplar (of points without a wrong type), enum.name once a metric, points or not,
    metric.empty once a metric without data points, bundle.empty once where there are none at all.
14. Points left out by Record.only are neither skipped nor rejected.
15. Exemplars that the settings turn off are ignored as unknown fields are, wrong types in them too.
16. AnyValue that says only string_value_strindex is empty, as OTLP asks for.
"""

import zlib
from functools import partial
from typing import Any

import msgspec
import zstandard

import oracle_json
import oracle_proto
from oracle_row import DEVICE_ID, first, row_of, valued
from oracle_shapes import Found, NoRow, Refused, Resource, Verdict
from oracle_text import as_texts, path_of

JSON_SPACE = b" \t\r\n"
LINE_FEED = 0x0A
ASCII_TEXT = JSON_SPACE + bytes(range(0x20, 0x7F))


def rows(record: Any, settings: Any) -> Verdict:
    """Judge one record; Refused when the whole of it is."""
    verdict = Verdict()
    if record.value is None:
        verdict.skipped["record.tombstone"] = 1
        return verdict
    bundle = read(record.value, settings)
    metrics = [
        (resource, scope, metric) for resource in bundle for scope in resource.scopes for metric in scope.metrics
    ]
    placed = [(*where, point) for where in metrics for point in where[-1].points]
    if len(placed) > settings.limits.points:
        raise Refused("limits.points")
    for *_, metric in metrics:
        if metric.enum_name:
            count(verdict.noted, "enum.name")
        if not metric.points:
            count(verdict.noted, "metric.empty")
    if not placed:
        count(verdict.noted, "bundle.empty")
    for ordinal, where in enumerate(placed):
        found = Found(ordinal, *where)
        note(verdict.noted, settings, found)
        if record.only is None or ordinal in record.only:
            judge(verdict, record, settings, found)
    return verdict


def judge(verdict: Verdict, record: Any, settings: Any, found: Found) -> None:
    """Give one data point its row, or its reason for none."""
    try:
        row = row_of(record, settings, found)
    except NoRow as no:
        if no.skipped:
            count(verdict.skipped, no.reason)
        else:
            verdict.rejected.append((found.ordinal, no.reason))
        return
    if len(msgspec.json.encode(row)) + len("\n") > settings.limits.row_bytes:
        verdict.rejected.append((found.ordinal, "row.too_large"))
        return
    verdict.rows.append(row)
    verdict.paths.append(path_of(row, settings))


def note(noted: dict[str, int], settings: Any, found: Found) -> None:
    """Count what is tolerated in one data point."""
    if not first(as_texts(found.resource.attributes), DEVICE_ID):
        count(noted, "device.unknown")
    if not found.scope.name:
        count(noted, "datasource.unknown")
    if found.point is not None and settings.exemplars:
        for exemplar in found.point.get("exemplars", []):
            if not valued(exemplar):
                count(noted, "exemplar.value")


def count(counts: dict[str, int], reason: str) -> None:
    counts[reason] = counts.get(reason, 0) + 1


# ---------------------------------------------------------------------------------------------- the envelope


def read(payload: bytes, settings: Any) -> list[Resource]:
    """Bytes to resources, in whichever format they are."""
    plain = opened(payload, settings.limits)
    read_json = partial(oracle_json.read, exemplars=settings.exemplars)
    read_proto = partial(oracle_proto.read, exemplars=settings.exemplars)
    if settings.format == "otlp_json":
        return read_json(plain)
    if settings.format == "otlp_proto":
        return read_proto(plain)
    boms = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
    if plain.startswith((*boms, b"{\x00", b"\x00{", b"\x00\x00\x00{")):
        raise Refused("decode.encoding")
    if plain.lstrip(JSON_SPACE)[:1] in (b"{", b"[", b'"'):
        return read_json_first(plain, read_json, read_proto)
    try:
        return read_proto(plain)
    except Refused:
        if all(byte in ASCII_TEXT for byte in plain):
            return read_json(plain)
        raise


def read_json_first(payload: bytes, read_json: Any, read_proto: Any) -> list[Resource]:
    """JSON, unless it is none and begins with what is also the tag of resource_metrics."""
    try:
        return read_json(payload)
    except Refused as refused:
        if payload[0] != LINE_FEED:
            raise
        as_json = refused
    try:
        return read_proto(payload)
    except Refused:
        raise as_json from None


def opened(payload: bytes, limits: Any) -> bytes:
    """The bundle's bytes, out of their gzip or zstd if they are in one."""
    if len(payload) > limits.record_bytes:
        raise Refused("limits.size")
    if compressed(payload):
        payload = inflate(payload, limits)
        if compressed(payload):
            raise Refused("decode.gzip")
    if not payload:
        raise Refused("decode.empty")
    return payload


def compressed(payload: bytes) -> bool:
    skippable = payload[1:4] == b"\x2a\x4d\x18" and payload[0] & 0xF0 == 0x50
    return payload[:2] == b"\x1f\x8b" or payload[:4] == b"\x28\xb5\x2f\xfd" or skippable


def inflate(payload: bytes, limits: Any) -> bytes:
    gzip = payload[:2] == b"\x1f\x8b"
    out = b""
    rest = payload
    while rest:
        if gzip:
            member: Any = zlib.decompressobj(31)
            most = [limits.inflated_bytes + 1 - len(out)]
        else:
            member, most = zstandard.ZstdDecompressor(max_window_size=8 * 2**20).decompressobj(), []
        try:
            out += member.decompress(rest, *most)
        except (zlib.error, zstandard.ZstdError):
            raise Refused("decode.gzip") from None
        if len(out) > 8 * 2**20 and len(out) > limits.inflate_ratio * len(payload):
            raise Refused("limits.ratio")
        if len(out) > limits.inflated_bytes:
            raise Refused("limits.size")
        if not member.eof:
            raise Refused("decode.gzip")
        rest = member.unused_data
        if not compressed(rest):
            rest = rest.lstrip(b"\0 \t\r\n")
    return out
