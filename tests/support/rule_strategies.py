"""Rules, and bundles of which many are about them, for hypothesis."""

import json
from typing import Any

from hypothesis import strategies as st

from lmstream.rules import Conditions, Maps, Mask, Names, Rule, Scale
from lmstream.rules.checks import wrong

HOSTS = ("a1", "a2", "b1", "mail me@x.org now", "")
NAMES = ("host", "zone", "epoch", "note", "na me")
GLOBS = ("a*", "*1", "?2", "*", "a1", "x*y", "m?", "\\*", "b1", "")
METRICS = ("m1", "m2", "n1", "m*")
UNITS = ("By", "s", "")
PARTS = ("resource", "scope", "attributes")
EPOCH = "1715263558360"

texts = st.one_of(st.sampled_from(GLOBS), st.lists(st.sampled_from(GLOBS), min_size=1, max_size=3).map(tuple))


@st.composite
def conditions(draw: Any, parts: tuple[str, ...]) -> Conditions:
    """Of at most three of these parts."""
    chosen = draw(st.sets(st.sampled_from(parts), max_size=2)) if parts else set()
    found: dict[str, Any] = {}
    for part in chosen:
        if part in PARTS:
            found[part] = draw(st.dictionaries(st.sampled_from(NAMES), texts, min_size=1, max_size=2))
        elif part == "unit":
            found[part] = draw(st.sampled_from(UNITS))
        elif part == "type":
            found[part] = draw(st.sampled_from([("gauge", "sum"), "gauge", "s*", "histogram"]))
        else:
            found[part] = draw(texts)
    return Conditions(**found)


WHOLE = ("org", "datasource", "metric", "type", "unit", "resource", "scope")
EVERY = (*WHOLE, "attributes")


@st.composite
def rules(draw: Any) -> Rule:
    """One that may be wrong."""
    kind = draw(st.sampled_from(["drop", "keep", "series", "series", "point", "point", "metric", "org"]))
    of = {"drop": EVERY, "keep": EVERY, "point": EVERY, "org": ("org", "datasource", "resource", "scope")}.get(
        kind, WHOLE
    )
    made: dict[str, Any] = {"when": draw(conditions(of)), "unless": draw(conditions(of))}
    if kind in ("drop", "keep"):
        made[kind] = True
    elif kind == "org":
        made["org"] = draw(st.sampled_from(["acme", "b/ü", "c"]))
    elif kind == "metric":
        act = draw(st.sampled_from(["scale", "key", "unit"]))
        if act == "scale":
            powers = st.sampled_from([2, 1024, 1 << 40])
            by = {draw(st.sampled_from(["multiply", "divide"])): draw(powers)}
            made["scale"] = Scale(unit=draw(st.sampled_from(["MiBy", "By"])), **by)
        elif act == "key":
            made["metric_key"] = draw(st.sampled_from(["k", "k/ü"]))
        else:
            made["leave_out"] = ("unit",)
    else:
        parts = ("attributes",) if kind == "point" else ("resource", "scope")
        made |= draw(changes(parts))
    return Rule(name=f"r{draw(st.integers(0, 10**6))}", **made)


@st.composite
def changes(draw: Any, parts: tuple[str, ...]) -> dict[str, Any]:
    """Of attributes, and of fields that are made of them."""
    part = draw(st.sampled_from(parts))
    act = draw(st.sampled_from(["only", "remove", "mask", "email", "rename", "set", "leave", "fields"]))
    names = draw(st.lists(st.sampled_from([*NAMES, "*", "?o*", "z*"]), min_size=1, max_size=2)).copy()
    if act in ("only", "remove"):
        return {act: Names(**{part: tuple(names)})}
    if act in ("mask", "email"):
        find = "email" if act == "email" else "value"
        replace = draw(st.sampled_from([None, "***", 'a"b']))
        return {"mask": Mask(**{part: tuple(names)}, find=find, replace=replace)}
    if act == "rename":
        return {"rename": Maps(**{part: {draw(st.sampled_from(NAMES)): draw(st.sampled_from([*NAMES, "new"]))}})}
    if act == "set":
        return {
            "set": Maps(**{part: {draw(st.sampled_from([*NAMES, "env"])): draw(st.sampled_from(["", "x", EPOCH]))}})
        }
    if act == "leave":
        fields = ("attributes", "instance") if part == "attributes" else ("resource", "scope", "deviceName")
        return {"leave_out": (draw(st.sampled_from(fields)),)}
    fields = ("instance",) if part == "attributes" else ("deviceId", "deviceName")
    return {"mask": Mask(fields=(draw(st.sampled_from(fields)),), find=draw(st.sampled_from(["value", "email"])))}


def rule_lists() -> st.SearchStrategy[tuple[Rule, ...]]:
    """Lists with which an engine can be made."""
    every = st.lists(rules(), min_size=1, max_size=6, unique_by=lambda rule: rule.name).map(tuple)
    return every.filter(lambda made: not wrong(made))


def _attributes(found: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": value}} for name, value in found.items()]


_maps = st.dictionaries(st.sampled_from(NAMES[:2] + NAMES[3:]), st.sampled_from(HOSTS), max_size=3)
_values = st.one_of(
    st.integers(-5, 5000).map(lambda value: {"asInt": str(value)}),
    st.sampled_from([2**62, 2**53 + 1, -(2**63), 1 << 40]).map(lambda value: {"asInt": str(value)}),
    st.sampled_from([0.5, -0.0, 1e300, 5e-324, 1.25, 3.0, 1e-310]).map(lambda value: {"asDouble": value}),
)
_odd = st.sampled_from([{"asDouble": "NaN"}, {"asInt": "1", "asDouble": 2.0}, {}, {"asInt": "3", "flags": 1}])


@st.composite
def bundles(draw: Any, *, plain: bool) -> bytes:
    """OTLP/JSON about the names above; `plain` is as the native part reads it: else with points that are odd."""
    values = _values if plain else st.one_of(_values, _values, _values, _odd)
    resources = []
    for _ in range(draw(st.integers(1, 2))):
        scopes = []
        for _ in range(draw(st.integers(1, 2))):
            metrics = [draw(_metric(values, plain=plain)) for _ in range(draw(st.integers(1, 4)))]
            inside = draw(_maps)
            if draw(st.booleans()):
                inside = {"zone": "z"} | inside | {"epoch": EPOCH}
            scope = {"name": draw(st.sampled_from(["a1", "b1", "xy", ""])), "attributes": _attributes(inside)}
            scopes.append({"scope": scope, "metrics": metrics})
        named = draw(st.dictionaries(st.just("hostName"), st.sampled_from(HOSTS), max_size=1))
        named["tenant"] = draw(st.sampled_from(["a1", "b1", "x y"]))
        resources.append({"resource": {"attributes": _attributes(draw(_maps) | named)}, "scopeMetrics": scopes})
    return json.dumps({"resourceMetrics": resources}, separators=(",", ":"), ensure_ascii=False).encode()


@st.composite
def _metric(draw: Any, values: Any, *, plain: bool) -> dict[str, Any]:
    points = []
    for _ in range(draw(st.integers(1, 3))):
        attributes = draw(_maps) | draw(
            st.dictionaries(st.sampled_from(["wildValue", "epoch"]), st.sampled_from(HOSTS), max_size=1)
        )
        point = {"timeUnixNano": "1715263558360000000"} | draw(values) | {"attributes": _attributes(attributes)}
        if not plain and draw(st.integers(0, 5)) == 0:
            point["exemplars"] = [
                {"timeUnixNano": "1715263558360000000", "asInt": draw(st.sampled_from(["3", "4096"]))}
            ]
        if not plain and draw(st.integers(0, 9)) == 0:
            del point["timeUnixNano"]
        points.append(point)
    kind: dict[str, Any] = {"gauge": {"dataPoints": points}}
    if draw(st.booleans()):
        kind = {"sum": {"dataPoints": points, "aggregationTemporality": 2, "isMonotonic": True}}
    if not plain and draw(st.integers(0, 5)) == 0:
        point = {
            "timeUnixNano": "1715263558360000000",
            "count": "2",
            "bucketCounts": ["1", "1"],
            "explicitBounds": [1.5],
        }
        kind = {"histogram": {"dataPoints": [point], "aggregationTemporality": 2}}
    unit = draw(st.sampled_from(UNITS))
    return {"name": draw(st.sampled_from(METRICS)), "unit": unit} | kind
