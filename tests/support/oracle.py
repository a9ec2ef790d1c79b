"""What a record must become, said slowly: the judge of the engine, sharing no code with it.

Written from the row contract, 1.1, for clarity and not for speed. `rows(record, settings)` gives a Verdict or raises
Refused(reason). support/oracle_json.py and support/oracle_proto.py read the two formats into the plain shapes of support/oracle_shapes.py;
everything after that is one set of rules.

THE RULE OF PARTS. A point lands when its identity, its time and its value (or count, and what a distribution is made
of) are sound. All else about it (sum, min, max, zeroThreshold, quantiles, exemplars, start time) is left out of the row
when it is not finite, out of range or of a wrong type, and counted: part.nan, part.infinite, part.range, part.type,
part.missing (an exemplar without a value), part.bound (+Inf as the last bound), part.limit. What cannot be left out
without changing the meaning rejects the point; only a value that is itself NaN or infinite is skipped.

WHAT BECOMES OF A RECORD. It is understood when it gives a data point; empty when it gives none and holds nothing
unknown; a tombstone; or refused. Of a bundle with points, what cannot be counted is named in `parts`, a bad head
(resource, scope, metric) rejects the points under it, and nothing else is touched.

Where the text was silent, these were chosen:
 1. Only white space is `decode.json`: `decode.empty` is for no bytes. White space is JSON's four characters.
 2. What begins with `{`, `[` or `"` is JSON; the rest is protobuf, or JSON after all where protobuf refuses plain ASCII
    text (so that "hello" is `decode.json`, which says more). A line feed is also the protobuf tag of resource_metrics,
    and `{` a length of 123: what begins so and is no JSON is protobuf where it can be.
 3. Protobuf that holds fields but no resource_metrics is `decode.top_level`, as a JSON object without resourceMetrics is;
    so is gzip in gzip `decode.gzip`, and damaged zstd. A value may have several members (RFC 1952) or frames (RFC 8878),
    and zeros or white space after them. What bytes are that are no bundle is said by support/oracle_signs.py.
 4. UTF-16/32 without a byte order mark is seen by NUL bytes around the first `{`: `decode.encoding`.
 5. null is the default of a field, but no element of an array (proto3 JSON): there it is a wrong type. A JSON key said
    twice: the last one wins. `-0` without a point or exponent is judged as no test should need.
 6. Known fields that no row uses (description, schemaUrl, metadata, entity references, dropped counts) are not judged in
    JSON, apart from UTF-8, syntax and lone surrogates; in protobuf their strings must be UTF-8, as google.protobuf wants it.
 7. A lone surrogate (an escape of half a pair) is `decode.json` wherever it is, in fields that no row uses too: it is no
    text (RFC 8259, 8.2), and what follows it can be read in two ways.
 8. Unknown JSON may nest to 1,000 brackets; more is `limits.depth`.
 9. Integers outside int64 and doubles outside float64 in an attribute are wrong types; so is base64 that is none (both
    alphabets, padding optional) and hex that is none. A negative count, or a scale or offset outside int32, is
    `value.range`; flags outside uint32 are a wrong type. A temporality is any integer that float64 can hold.
10. A number in a string follows JSON's grammar: `+7`, `007` and `0x7` are wrong types.
11. A point is judged in this order: head faults from outside in, wrong type of what decides, limits of its attributes,
    flags, labels, time (missing, then range), value (two, missing, range, shape, sum of the last two counts; NaN or
    infinite), org, size.
12. Of two faults of one quantile the quantile's names the reason, but NaN comes before infinite.
13. In attributes a wrong type comes before a limit; of two limits the first in document order, a list's length before
    what is in it. Each list counts by itself: attributes, values of an array, pairs of a map. Deeper than 47 containers
    nothing is looked at.
14. What is noted speaks of the bundle, whatever became of the rows, but for part.*, time.record and attribute.empty of
    exemplars, which count rows that were made. device.unknown and datasource.unknown once a data point; enum.name or enum.unknown once a metric with
    data, points or not; metric.empty once a metric without data points, bundle.empty once where there are none at all;
    attribute.empty for every point that uses the value, and for every exemplar that stays in a row.
15. Under a bad head nothing is noted of points and enums, and nothing of the enum of a metric whose points are lost;
    metric.empty and member.unknown count structure and stay. Of a
    point that is point.type or limits.*, attribute.empty of its own attributes and exemplars is not counted.
16. A part in which points cannot be counted is neither empty nor without points.
17. Unknown members count once a key of an object, once a field number of a message, whatever the value, null too.
    Nobody looks inside metadata, entity references and data points.
18. No point means none that can be counted: points under bad heads can. Faults of a bundle without points are met in a
    walk, the head of an entry before what is in it.
19. Points left out by Record.only are neither skipped nor rejected. With Record.below the points below those paths are
    numbered behind all others (rows stay in document order), and only lost parts below them are named. A path below
    which a point is rejected stays a part, for its reason: the point's ordinal would say nothing by itself.
20. Exemplars that the settings turn off are ignored as unknown fields are, wrong types in them too.
21. AnyValue that says only string_value_strindex is empty, as OTLP asks for, and nothing unknown.
22. Labels in protobuf are field 1 with wire type 2; every pair must be among the attributes as texts.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from support import oracle_json, oracle_proto
from support.oracle_envelope import JSON_SPACE, opened
from support.oracle_parts import count
from support.oracle_row import DEVICE_ID, first, row_of
from support.oracle_shapes import Bundle, Found, NoRow, Refused, Verdict
from support.oracle_signs import GENERAL, sign_of
from support.oracle_text import as_texts, path_of

LINE_FEED = 0x0A
ASCII_TEXT = JSON_SPACE + bytes(range(0x20, 0x7F))
NAMES = 10
"""How many unknown members are named."""


def rows(record: Any, settings: Any) -> Verdict:
    """Judge one record; Refused when the whole of it is."""
    verdict = Verdict()
    if record.value is None:
        verdict.skipped["record.tombstone"] = 1
        return verdict
    bundle = read(record.value, settings)
    below = record.below
    everything = record.only is None and not below
    placed = [(*where, point) for where in bundle.metrics for point in where[-1].points]
    if len(placed) > settings.limits.points:
        raise Refused("limits.points")
    if not placed:
        nothing(bundle)
    note_bundle(verdict, bundle, bool(placed))
    verdict.points = len(placed)
    verdict.parts = [lost for lost in bundle.lost if everything or lies_below(lost[0], below)]
    behind = [lies_below(where[-1].path, below) for where in placed]
    numbers = {False: iter(range(len(placed))), True: iter(range(behind.count(False), len(placed)))}
    for where, is_behind in zip(placed, behind, strict=True):
        found = Found(next(numbers[is_behind]), *where)
        note_point(verdict.noted, found)
        if everything or is_behind or found.ordinal in (record.only or ()):
            rejected = len(verdict.rejected)
            judge(verdict, record, settings, found)
            if is_behind and len(verdict.rejected) > rejected:
                stays_a_part(verdict, next(one for one in below if lies_below(where[-1].path, (one,))))
    return verdict


def stays_a_part(verdict: Verdict, path: str) -> None:
    """A rejected point of a replay that has no ordinal of its own but below a path: the path stays in the letter."""
    _, reason = verdict.rejected.pop()
    if all(path != lost[0] for lost in verdict.parts):
        verdict.parts.append((path, reason))


def lies_below(path: str, paths: tuple[str, ...]) -> bool:
    return any(path == one or path.startswith((f"{one}.", f"{one}[")) for one in paths)


def nothing(bundle: Bundle) -> None:
    """Refuse a bundle without points in which something is wrong or not understood."""
    if bundle.faults:
        path, reason = bundle.faults[0]
        raise Refused(reason, (path,))
    if bundle.unknown:
        raise Refused("decode.not_understood", tuple(bundle.unknown[:NAMES]))


def judge(verdict: Verdict, record: Any, settings: Any, found: Found) -> None:
    """Give one data point its row, or its reason for none."""
    noted: dict[str, int] = {}
    try:
        row = row_of(record, settings, found, noted)
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
    for reason, times in noted.items():
        verdict.noted[reason] = verdict.noted.get(reason, 0) + times


# ---------------------------------------------------------------------------------------------- what is noted


def note_bundle(verdict: Verdict, bundle: Bundle, points: bool) -> None:  # noqa: FBT001 - whether there are any
    """Count what is tolerated above the data points."""
    for resource, scope, metric in bundle.metrics:
        if metric.enum and not (resource.fault or scope.fault or metric.fault or metric.lost):
            count(verdict.noted, metric.enum)
        if not metric.points and not metric.lost:
            count(verdict.noted, "metric.empty")
    if not points:
        count(verdict.noted, "bundle.empty")
    for _ in bundle.hollow:
        count(verdict.noted, "member.unknown")
    verdict.unknown = bundle.hollow[:NAMES]


def note_point(noted: dict[str, int], found: Found) -> None:
    """Count what is tolerated in one data point."""
    if found.fault:
        return
    if not first(as_texts(found.resource.attributes), DEVICE_ID):
        count(noted, "device.unknown")
    if not found.scope.name:
        count(noted, "datasource.unknown")
    used = [found.resource.attributes, found.scope.attributes]
    fields = found.point.fields
    if fields is not None and not fields["attributes"].limit:
        used.append(fields["attributes"])
    empty = sum(one.empty for one in used if getattr(one, "limit", "not read") == "")
    if empty:
        noted["attribute.empty"] = noted.get("attribute.empty", 0) + empty


# ---------------------------------------------------------------------------------------------- formats


def read(payload: bytes, settings: Any) -> Bundle:
    """Bytes to a bundle, in whichever format they are; else what they are, where that can be seen."""
    plain = opened(payload, settings.limits)

    def as_json(data: bytes) -> Bundle:
        snake = settings.field_names == "any"
        return oracle_json.read(data, exemplars=settings.exemplars, snake=snake)

    def as_proto(data: bytes) -> Bundle:
        return oracle_proto.read(data, exemplars=settings.exemplars)

    def as_either(data: bytes) -> Bundle:
        return sniffed(data, as_json, as_proto)

    reader = {"otlp_json": as_json, "otlp_proto": as_proto}.get(settings.format, as_either)
    try:
        bundle = reader(plain)
        if not bundle.metrics or not any(metric.points for *_, metric in bundle.metrics):
            nothing(bundle)
    except Refused as refused:
        sign = sign_of(plain, refused.reason, as_either) if refused.reason in GENERAL else ""
        if sign:
            raise Refused(sign) from None
        raise
    return bundle


def sniffed(plain: bytes, read_json: Callable[[bytes], Bundle], read_proto: Callable[[bytes], Bundle]) -> Bundle:
    boms = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
    if plain.startswith((*boms, b"{\x00", b"\x00{", b"\x00\x00\x00{")):
        raise Refused("decode.encoding")
    if plain.lstrip(JSON_SPACE)[:1] in (b"{", b"[", b'"'):
        return json_first(plain, read_json, read_proto)
    try:
        return read_proto(plain)
    except Refused:
        if all(byte in ASCII_TEXT for byte in plain):
            return read_json(plain)
        raise


def json_first(plain: bytes, read_json: Callable[[bytes], Bundle], read_proto: Callable[[bytes], Bundle]) -> Bundle:
    """JSON, unless it is none and begins with what is also the tag of resource_metrics."""
    try:
        return read_json(plain)
    except Refused as refused:
        if plain[0] != LINE_FEED:
            raise
        as_json = refused
    try:
        return read_proto(plain)
    except Refused:
        raise as_json from None
