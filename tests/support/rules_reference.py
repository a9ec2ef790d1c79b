"""What rules make of rows, said slowly: the judge of the engine's shaping, sharing no code with it.

It looks at rows that were made without rules: conditions at each as it is, actions at a copy, in the order of the file.
"""

import json
import re
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import msgspec

NUMBERS = ("gauge", "sum")
ORDER = (
    *("orgId", "orgKey", "deviceId", "deviceName", "resource", "datasource", "scope", "rowId", "metric", "metricKey"),
    *("unit", "type", "temporality", "monotonic", "ts", "tsUnixMs", "startTsUnixMs"),
)
"""Members of a line, up to its value."""


def like(glob: str, text: str) -> bool:
    """Whether a glob is all of a text: the text's ends that are left after each step, all of them."""
    rests = {0}
    at = 0
    while at < len(glob):
        letter = glob[at]
        at += 1
        if letter == "*":
            rests = set(range(min(rests, default=len(text) + 1), len(text) + 1))
            continue
        if letter == "\\" and at < len(glob):
            letter, at, any_one = glob[at], at + 1, False
        else:
            any_one = letter == "?"
        rests = {rest + 1 for rest in rests if rest < len(text) and (any_one or text[rest] == letter)}
    return len(text) in rests


def matches(texts: Any, text: str) -> bool:
    if isinstance(texts, str):
        return like(texts, text)
    if isinstance(texts, tuple | list):
        return any(like(each, text) for each in texts)
    return re.fullmatch(texts.regex, text) is not None  # of expressions that both understand alike


def hold(conditions: Any, row: dict[str, Any]) -> bool:
    """Whether all hold; without any they do."""
    fields = {"org": "orgId", "datasource": "datasource", "metric": "metric", "type": "type", "unit": "unit"}
    for name, field in fields.items():
        texts = getattr(conditions, name)
        if texts is not None and not matches(texts, row.get(field, "")):
            return False
    for part in ("resource", "scope", "attributes"):
        for name, texts in getattr(conditions, part).items():
            value = row.get(part, {}).get(name)
            if value is None or not matches(texts, value):
                return False
    return True


def applies(rule: Any, row: dict[str, Any]) -> bool:
    given = rule.unless != type(rule.unless)()
    return hold(rule.when, row) and not (given and hold(rule.unless, row))


def shaped(rules: Any, row: dict[str, Any], token: Any) -> dict[str, Any] | str:
    """The row after all rules, or the name of the rule that drops it. `token` makes a path-safe token of a text."""
    active = [rule for rule in rules if applies(rule, row)]
    for rule in active:
        if rule.drop:
            return str(rule.name)
        if rule.keep:
            break
    made: dict[str, Any] = json.loads(json.dumps(row))
    powers = [Fraction(rule.scale.multiply, rule.scale.divide) for rule in active if rule.scale is not None]
    exact = bool(powers) and row["type"] in NUMBERS and scale(made, powers)
    routed = next((rule.org for rule in active if rule.org), "")
    if routed:
        made["orgId"], made["orgKey"] = routed, token(routed)
    for rule in active:
        change(rule, made, token, exact=exact)
    return {name: value for name, value in made.items() if value != {} or name not in PARTS}


PARTS = ("resource", "scope", "attributes")


def change(rule: Any, row: dict[str, Any], token: Any, *, exact: bool) -> None:
    for part in PARTS:
        row[part] = attributes(rule, part, row.get(part, {}))
    for field in rule.mask.fields:
        if row.get(field):
            row[field] = mask(rule.mask, row[field])
    if rule.metric_key:
        row["metricKey"] = token(rule.metric_key)
    if rule.scale is not None and exact:
        row["unit"] = rule.scale.unit
    for field in rule.leave_out:
        row.pop(field, None)


def attributes(rule: Any, part: str, given: dict[str, str]) -> dict[str, str]:
    only, remove, masked = getattr(rule.only, part), getattr(rule.remove, part), getattr(rule.mask, part)
    found = {name: value for name, value in given.items() if not only or matches(only, name)}
    found = {name: value for name, value in found.items() if not matches(remove, name)}
    found = {name: mask(rule.mask, value) if matches(masked, name) else value for name, value in found.items()}
    for old, new in getattr(rule.rename, part).items():
        if old in found:
            found = {name: value for name, value in found.items() if name != new}
    renames = getattr(rule.rename, part)
    found = {renames.get(name, name): value for name, value in found.items()}
    found.update(getattr(rule.set, part))
    return {} if part in rule.leave_out else found


def mask(how: Any, value: str) -> str:
    def put(text: str) -> str:
        return how.replace if how.replace is not None else blake2b(text.encode(), digest_size=16).hexdigest()

    if not value:
        return value
    if how.find == "value":
        return put(value)
    pattern = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z]{2,63}" if how.find == "email" else how.find.regex
    return re.sub(pattern, lambda found: put(found[0]) if found[0] else "", value)


def scale(row: dict[str, Any], powers: list[Fraction]) -> bool:
    """Scale all numbers of a row's value, or none."""
    by = Fraction(1)
    for power in powers:
        by *= power
    every = [row, *row.get("exemplars", [])]
    made = [scaled(each["value"], by) for each in every]
    if None in made:
        return False
    for each, value in zip(every, made, strict=True):
        each["value"] = value
    return True


def scaled(value: float, by: Fraction) -> int | float | None:
    exact = Fraction(value) * by
    if isinstance(value, int) and by >= 1:
        return int(exact) if -(2**63) <= exact < 2**63 else None
    try:
        found = float(exact)
    except OverflowError:
        return None
    if value == 0:
        return float(value)  # with its sign
    return found if Fraction(found) == exact else None


def line_of(row: dict[str, Any]) -> bytes:
    """The row as a line: its members in the order of lines."""
    ends = ("instance", "attributes")
    values = [name for name in row if name not in ORDER and name not in ends]
    ordered = {name: row[name] for name in (*ORDER, *values, *ends) if name in row}
    return msgspec.json.encode(ordered) + b"\n"
