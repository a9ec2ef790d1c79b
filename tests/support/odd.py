"""Odd bundles: sound ones, damaged in every way that senders are known for, in JSON and in protobuf."""

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message

from support import wire

KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
HUGE = 10**400  # outside float64 and int64 alike
ODD_VALUES = (None, 7, -1, 1.5, HUGE, "x", "7", "NaN", "Infinity", "-Infinity", "", True, [], {}, [None], [7], {"x": 1})
UNKNOWN_NAMES = ("later", "time_unix_nano", "data_points", "Name", "intGauge", "stringvalue", "labels", "exemplar")
SNAKE = {
    "resourceMetrics": "resource_metrics",
    "scopeMetrics": "scope_metrics",
    "dataPoints": "data_points",
    "timeUnixNano": "time_unix_nano",
    "startTimeUnixNano": "start_time_unix_nano",
    "asInt": "as_int",
    "asDouble": "as_double",
    "stringValue": "string_value",
    "bucketCounts": "bucket_counts",
    "explicitBounds": "explicit_bounds",
    "quantileValues": "quantile_values",
}
Tree = dict[str, Any]
Damage = Callable[[Tree, random.Random], None]


def odd_value(rng: random.Random) -> Any:
    """One of them, as a copy: what one damage puts in, the next may change."""
    return copy.deepcopy(rng.choice(ODD_VALUES))


def objects(tree: Any) -> Iterator[Tree]:
    """Every object of a tree."""
    if isinstance(tree, dict):
        yield tree
    for inner in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from objects(inner)


def entries(tree: Tree, name: str) -> list[Any]:
    found = tree.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def metrics(tree: Tree) -> list[Tree]:
    return [
        m for r in entries(tree, "resourceMetrics") for s in entries(r, "scopeMetrics") for m in entries(s, "metrics")
    ]


def datas(tree: Tree) -> list[tuple[str, Tree]]:
    """Kind and data object of each metric that has one."""
    return [(kind, m[kind]) for m in metrics(tree) for kind in KINDS if isinstance(m.get(kind), dict)]


def points(tree: Tree) -> list[tuple[str, Tree]]:
    return [(kind, point) for kind, data in datas(tree) for point in entries(data, "dataPoints")]


def of(found: list[Any], rng: random.Random) -> Any:
    """One of them, or an object that belongs to nothing."""
    return rng.choice(found) if found else {}


# ---------------------------------------------------------------------------------------------- damage, in JSON


def a_wrong_value_anywhere(tree: Tree, rng: random.Random) -> None:
    spot = of([one for one in objects(tree) if one], rng)
    if spot:
        key = rng.choice(list(spot))
        spot[key] = odd_value(rng)


def a_wrong_element_anywhere(tree: Tree, rng: random.Random) -> None:
    lists = [inner for one in objects(tree) for inner in one.values() if isinstance(inner, list)]
    if lists:
        chosen = rng.choice(lists)
        chosen.insert(rng.randint(0, len(chosen)), odd_value(rng))


def an_unknown_member_anywhere(tree: Tree, rng: random.Random) -> None:
    rng.choice(list(objects(tree)))[rng.choice(UNKNOWN_NAMES)] = odd_value(rng)


def another_name_anywhere(tree: Tree, rng: random.Random) -> None:
    spot = of([one for one in objects(tree) if one], rng)
    if spot:
        key = rng.choice(list(spot))
        spot[rng.choice(UNKNOWN_NAMES)] = spot.pop(key)


def snake_case(tree: Tree, rng: random.Random) -> None:
    """Some members by the names of the .proto files, sometimes beside the right ones."""
    share = rng.choice([0.1, 0.5, 1])
    for one in list(objects(tree)):
        for key in list(one):
            if key in SNAKE and rng.random() < share:
                one[SNAKE[key]] = one[key] if rng.random() < 0.2 else one.pop(key)


def labels(tree: Tree, rng: random.Random) -> None:
    _, point = of(points(tree), rng) or ("", {})
    known = [a for a in entries(point, "attributes") if isinstance(a.get("key"), str)]
    texts = [
        {"key": a["key"], "value": (a.get("value") or {}).get("stringValue") or ""}
        for a in known
        if isinstance(a.get("value"), dict)
    ]
    other = [[{"key": "InstanceId", "value": "i-1"}], [{}], [7], {}, None, []]
    point["labels"] = rng.choice([texts, texts, *other])


def no_time(tree: Tree, rng: random.Random) -> None:
    _, point = of(points(tree), rng) or ("", {})
    point["timeUnixNano"] = rng.choice([0, "0", None])


def an_odd_part(tree: Tree, rng: random.Random) -> None:
    _, point = of(points(tree), rng) or ("", {})
    name = rng.choice(
        ["sum", "min", "max", "zeroThreshold", "startTimeUnixNano", "exemplars", "quantileValues", "flags"]
    )
    point[name] = odd_value(rng)


def odd_exemplars(tree: Tree, rng: random.Random) -> None:
    _, point = of(points(tree), rng) or ("", {})
    names = ("asInt", "asDouble", "traceId", "spanId", "timeUnixNano", "filteredAttributes")
    point["exemplars"] = [
        {"asInt": "1"} | {name: odd_value(rng) for name in names if rng.random() < 0.3}
        if rng.random() < 0.8
        else odd_value(rng)
        for _ in range(rng.randint(1, 3))
    ]


def odd_quantiles(tree: Tree, rng: random.Random) -> None:
    _, point = of([p for p in points(tree) if p[0] == "summary"], rng) or ("", {})
    point["quantileValues"] = [
        {name: odd_value(rng) for name in ("quantile", "value") if rng.random() < 0.7} for _ in range(3)
    ]


def an_odd_bound(tree: Tree, rng: random.Random) -> None:
    _, point = of([p for p in points(tree) if p[0] == "histogram"], rng) or ("", {})
    bounds = point.get("explicitBounds")
    if isinstance(bounds, list):
        bounds.insert(
            rng.choice([len(bounds)] * 3 + [0]), rng.choice(["Infinity", "Infinity", "NaN", "-Infinity", HUGE])
        )
        if rng.random() < 0.5 and isinstance(point.get("bucketCounts"), list):
            point["bucketCounts"].append(rng.choice(["1", str(2**63 - 1)]))


def a_part_that_cannot_be_counted(tree: Tree, rng: random.Random) -> None:
    names = ("scopeMetrics", "metrics", "dataPoints", *KINDS)
    spots = [(one, name) for one in objects(tree) for name in names if name in one]
    if spots:
        spot, name = rng.choice(spots)
        spot[name] = rng.choice([5, "x", {}, [], True, [7], [None]])


def a_second_kind(tree: Tree, rng: random.Random) -> None:
    metric = of(metrics(tree), rng)
    metric[rng.choice(KINDS)] = rng.choice([{}, {"dataPoints": []}, {"dataPoints": [{}, 7]}, 5, None])


def a_bad_head(tree: Tree, rng: random.Random) -> None:
    resource = of(entries(tree, "resourceMetrics"), rng)
    scope = of(entries(resource, "scopeMetrics"), rng)
    metric = of(entries(scope, "metrics"), rng)
    spots = [(resource, "resource"), (scope, "scope"), (metric, "name"), (metric, "unit")]
    spots += [
        (data, name)
        for kind, data in datas(tree)
        if kind == "sum"
        for name in ("isMonotonic", "aggregationTemporality")
    ]
    spot, name = rng.choice(spots)
    spot[name] = copy.deepcopy(rng.choice([*ODD_VALUES, "DELTA", 9]))


def attributes_past_a_limit(tree: Tree, rng: random.Random) -> None:
    """Too many, or too deep, in a resource, a scope, a point or an exemplar."""
    deep: Any = {"stringValue": "x"}
    for _ in range(rng.choice([47, 48])):
        deep = (
            {"arrayValue": {"values": [deep]}} if rng.random() < 0.5 else {"kvlistValue": {"values": [{"value": deep}]}}
        )
    many = [{} for _ in range(rng.choice([1024, 1025]))]
    odd = rng.choice([many, [{"key": "a", "value": deep}], [{"value": {"arrayValue": {"values": many}}}]])
    names = ("resource", "scope")
    spots = [one[name] for one in objects(tree) for name in names if isinstance(one.get(name), dict)]
    spots += [point for _, point in points(tree)]
    exemplars = [e for _, point in points(tree) for e in entries(point, "exemplars")]
    if exemplars and rng.random() < 0.3:
        rng.choice(exemplars)["filteredAttributes"] = odd
    else:
        of(spots, rng)["attributes"] = odd


DAMAGES: tuple[Damage, ...] = (
    *(a_wrong_value_anywhere, a_wrong_element_anywhere, an_unknown_member_anywhere, another_name_anywhere, snake_case),
    *(labels, no_time, an_odd_part, odd_exemplars, odd_quantiles, an_odd_bound, a_part_that_cannot_be_counted),
    *(a_second_kind, a_bad_head, attributes_past_a_limit),
)


def damage(tree: Tree, rng: random.Random) -> None:
    """One to three damages."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        rng.choice(DAMAGES)(tree, rng)


# ---------------------------------------------------------------------------------------------- damage, in protobuf


def messages(message: Message) -> Iterator[Message]:
    """A message and all that are in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                yield from messages(one)


def damage_proto(bundle: Message, rng: random.Random) -> None:
    """Unknown fields, fields of another wire type, labels, too many attributes, in one to three places."""
    found = list(messages(bundle))
    for _ in range(rng.choice([1, 1, 2, 3])):
        spot = rng.choice(found)
        name = spot.DESCRIPTOR.name
        if name.endswith("DataPoint") and rng.random() < 0.5:
            some = rng.choice([LABEL, LABEL * 1025, b"\x0a\x00", b"\x0a\x02\x0a\x7f", b"\x08\x01"])
            spot.MergeFromString(some if not name.startswith("Exp") else b"")
        elif "attributes" in spot.DESCRIPTOR.fields_by_name and rng.random() < 0.3:
            for _ in range(rng.choice([1024, 1025])):
                spot.attributes.add()
        else:
            numbers = [field.number for field in spot.DESCRIPTOR.fields if field.type != field.TYPE_GROUP]
            spot.MergeFromString(
                rng.choice([b"\x9a\x3e\x00", other_wire_type(rng.choice(numbers)), b"\xfb\x3e\xfc\x3e"])
            )


LABEL = b"\x0a\x11" + b"\x0a\x0aInstanceId" + b"\x12\x03i-1"


def other_wire_type(number: int) -> bytes:
    """A field in a wire type that it does not have: fixed32, which no field of OTLP metrics but flags of logs has."""
    return wire.varint(number << 3 | 5) + b"\x01\x00\x00\x00"
