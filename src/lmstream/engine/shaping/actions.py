"""What one rule does to one part of a row, on what the part's piece says."""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Final, Literal

from lmstream.engine.pool_values import Device, MetricOf, Point, ScopeOf
from lmstream.partitioning import token
from lmstream.rules import Mask, Regex, Rule
from lmstream.rules.patterns import compiled, emails, names

Map = Literal["resource", "scope", "attributes"]
Attributes = dict[str, str]
Change = Callable[[Any], None]
"""Changes what a piece says, in place."""
NUMBERS: Final = ("gauge", "sum")
"""Types of metrics whose points have one value."""
_HASH: Final = 16  # bytes, 32 hex digits


def resource_change(rule: Rule, where: str) -> Change | None:
    """On a Device."""
    of_map = map_change(rule, "resource", where)
    masked = [name for name in ("deviceId", "deviceName") if name in rule.mask.fields]
    mask = masker(rule.mask, where) if masked else None
    without = "deviceName" in rule.leave_out
    if of_map is None and mask is None and not without:
        return None

    def change(device: Device) -> None:
        if of_map is not None:
            device.resource = of_map(device.resource)
        if mask is not None and "deviceId" in masked:
            device.device_id = mask(device.device_id) or "unknown"
        if mask is not None and "deviceName" in masked and device.device_name:
            device.device_name = mask(device.device_name)
        if without:
            device.device_name = None

    return change


def scope_change(rule: Rule, where: str) -> Change | None:
    """On a ScopeOf."""
    of_map = map_change(rule, "scope", where)
    if of_map is None:
        return None

    def change(scope: ScopeOf) -> None:
        scope.scope = of_map(scope.scope)

    return change


def metric_change(rule: Rule) -> Change | None:
    """On a MetricOf."""
    key = token(rule.metric_key) if rule.metric_key else ""
    scale, without = rule.scale, "unit" in rule.leave_out
    if not key and not without and scale is None:
        return None

    def change(metric: MetricOf) -> None:
        metric.metric_key = key or metric.metric_key
        if scale is not None and metric.type in NUMBERS:
            metric.unit = scale.unit
        if without:
            metric.unit = None

    return change


def point_change(rule: Rule, where: str) -> Change | None:
    """On a Point."""
    of_map = map_change(rule, "attributes", where)
    mask = masker(rule.mask, where) if "instance" in rule.mask.fields else None
    without = "instance" in rule.leave_out
    if of_map is None and mask is None and not without:
        return None

    def change(point: Point) -> None:
        if of_map is not None:
            point.attributes = of_map(point.attributes)
        if mask is not None and point.instance:
            point.instance = mask(point.instance)
        if without:
            point.instance = None

    return change


def map_change(rule: Rule, part: Map, where: str) -> Callable[[Attributes], Attributes] | None:
    """What a rule makes of attributes, in the order `only`, `remove`, `mask`, `rename`, `set`, `leave_out`."""
    steps: list[Callable[[Attributes], Attributes]] = []
    if only := getattr(rule.only, part):
        steps.append(_only(only))
    if remove := getattr(rule.remove, part):
        steps.append(_without(remove))
    if masked := getattr(rule.mask, part):
        steps.append(_masked(masked, masker(rule.mask, where)))
    if renamed := getattr(rule.rename, part):
        steps.append(_renamed(renamed))
    if put := getattr(rule.set, part):
        steps.append(lambda attributes: attributes | put)
    if part in rule.leave_out:
        steps.append(lambda _: {})
    if not steps:
        return None

    def change(attributes: Attributes) -> Attributes:
        for step in steps:
            attributes = step(attributes)
        return attributes

    return change


def _only(globs: tuple[str, ...]) -> Callable[[Attributes], Attributes]:
    named = names(globs)
    return lambda attributes: {name: value for name, value in attributes.items() if named(name)}


def _without(globs: tuple[str, ...]) -> Callable[[Attributes], Attributes]:
    named = names(globs)
    return lambda attributes: {name: value for name, value in attributes.items() if not named(name)}


def _masked(globs: tuple[str, ...], mask: Callable[[str], str]) -> Callable[[Attributes], Attributes]:
    named = names(globs)
    return lambda attributes: {name: mask(value) if named(name) else value for name, value in attributes.items()}


def _renamed(renames: dict[str, str]) -> Callable[[Attributes], Attributes]:
    def change(attributes: Attributes) -> Attributes:
        taken = {new for old, new in renames.items() if old in attributes}
        kept = {name: value for name, value in attributes.items() if name not in taken}
        return {renames.get(name, name): value for name, value in kept.items()}

    return change


def masker(mask: Mask, where: str) -> Callable[[str], str]:
    """What a mask makes of a value. An empty one stays. Raises ConfigError for an expression that RE2 does not take."""
    find = mask.find

    def put(found: str) -> str:
        return hashed(found) if mask.replace is None else mask.replace

    if find == "value":
        return lambda value: put(value) if value else value
    spans: Callable[[str], Iterable[tuple[int, int]]] = emails
    if isinstance(find, Regex):
        search = compiled(find, f"{where}.mask.find").finditer
        spans = lambda value: [found.span() for found in search(value)]  # noqa: E731 - one of two

    def change(value: str) -> str:
        parts: list[str] = []
        at = 0
        for start, stop in spans(value):
            if stop > start:  # an expression may find nothing, between any two characters
                parts += (value[at:start], put(value[start:stop]))
                at = stop
        return "".join((*parts, value[at:])) if parts else value

    if find == "email":
        return lambda value: change(value) if "@" in value else value
    return change


def hashed(text: str) -> str:
    """What stands for a text: the same for the same text everywhere. Who guesses the text can see that it is it."""
    return blake2b(text.encode(), digest_size=_HASH).hexdigest()
