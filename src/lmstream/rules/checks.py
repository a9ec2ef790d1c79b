"""What is wrong with rules, seen before a record is read: contradictions, impossible patterns, rules without use."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, get_args

import msgspec

from lmstream.errors import ConfigError
from lmstream.model import MetricType
from lmstream.rules.form import MAPS, RULES_MAX, Conditions, Mask, Regex, Rule, Scale, Texts
from lmstream.rules.patterns import compiled, holds

_KINDS: Final = get_args(MetricType)
_FIXED: Final = frozenset({"name", "when", "unless"})
_ACTS: Final = tuple(name for name in Rule.__struct_fields__ if name not in _FIXED)
_TEXTS: Final = ("org", "datasource", "metric", "type", "unit")
_POWER_MAX: Final = 1 << 60
_ONE: Final = "leave one of them out"
_MAPS_OF: Final = ("only", "remove", "mask", "rename", "set")
"""Actions on attributes, in the order in which one rule does them."""


def wrong(rules: Sequence[Rule], at: str = "engine.rules", *, transform: str = "") -> list[ConfigError]:
    """All that is wrong, each named by its key path: `engine.rules.0.when.metric`. `transform` is the module whose rows
    are counted beside those of rules."""
    found: list[ConfigError] = []
    if len(rules) > RULES_MAX:
        found.append(_error(at, f"{len(rules):,} rules, of {RULES_MAX} at most", "put texts of several rules in one"))
    names: dict[str, int] = {}
    for number, rule in enumerate(rules):
        here = f"{at}.{number}"
        if rule.name in names:
            what = f"rule {names[rule.name] + 1} has the name {rule.name!r} too"
            found.append(_error(f"{here}.name", what, "give each rule a name of its own: rows are counted by it"))
        if rule.name == transform:
            what = f"engine.transform is called {transform!r} too"
            found.append(_error(f"{here}.name", what, "give the rule another name: rows are counted by it"))
        names.setdefault(rule.name, number)
        found += _conditions(here, rule)
        found += _acts(here, rule)
        found += _reach(here, rule)
    found += _order(rules, at)
    return found


def _error(where: str, what: str, fix: str) -> ConfigError:
    return ConfigError("config.invalid", f"{where}: {what}", fix)


def _conditions(here: str, rule: Rule) -> Iterator[ConfigError]:
    for which in ("when", "unless"):
        conditions: Conditions = getattr(rule, which)
        every = [(f"{here}.{which}.{name}", getattr(conditions, name)) for name in _TEXTS]
        for part in MAPS:
            every += [(f"{here}.{which}.{part}.{name}", texts) for name, texts in getattr(conditions, part).items()]
        for where, texts in every:
            if texts is not None:
                yield from _texts(where, texts, _KINDS if where.endswith(f"{which}.type") else ())


def _texts(where: str, texts: Texts, known: tuple[str, ...]) -> Iterator[ConfigError]:
    if not isinstance(texts, str | Regex) and not texts:
        yield _error(where, "an empty list, which nothing matches", "name what to match, or remove the key")
        return
    try:
        match = holds(texts, where)
    except ConfigError as error:
        yield error
        return
    if known and not any(map(match, known)):
        yield _error(where, "matches no type that a metric can have", f"there are {', '.join(known)}")


def _acts(here: str, rule: Rule) -> Iterator[ConfigError]:
    default = Rule(name=rule.name)
    acts = [name for name in _ACTS if getattr(rule, name) != getattr(default, name)]
    if not acts:
        yield _error(here, f"rule {rule.name!r} does nothing", f"give it one of {', '.join(_ACTS)}")
    if rule.drop and rule.keep:
        yield _error(f"{here}.keep", "the rule drops and keeps the same rows", _ONE)
    elif rule.drop and len(acts) > 1:
        other = next(name for name in acts if name != "drop")
        yield _error(f"{here}.{other}", "the rule drops these rows: nothing else of them can change", "make two rules")
    if rule.decides and not rule.when.given and not rule.unless.given:
        act = "drop" if rule.drop else "keep"
        what = f"without a condition it would {act} every row"
        yield _error(f"{here}.{act}", what, "add a condition to `when` or `unless`")
    yield from _attributes(here, rule)
    if rule.scale is not None:
        yield from _scale(f"{here}.scale", rule.scale)
        if "unit" in rule.leave_out:
            yield _error(f"{here}.leave_out", "the rule sets a unit and leaves it out", _ONE)


def _attributes(here: str, rule: Rule) -> Iterator[ConfigError]:
    for part in MAPS:
        for name in getattr(rule.remove, part):
            if name in getattr(rule.only, part):
                yield _error(f"{here}.remove.{part}", f"`only` keeps {name!r}, and `remove` takes it", _ONE)
        yield from _renames(f"{here}.rename.{part}", getattr(rule.rename, part), getattr(rule.set, part))
        if part in rule.leave_out and any(getattr(getattr(rule, act), part) for act in _MAPS_OF):
            yield _error(f"{here}.leave_out", f"the rule changes `{part}` and leaves it out", _ONE)
    yield from _mask(f"{here}.mask", rule.mask)


def _renames(where: str, renames: Mapping[str, str], put: Mapping[str, str]) -> Iterator[ConfigError]:
    if len({*renames.values()}) < len(renames):
        yield _error(where, "two attributes get the same name", "give each one of its own")
    for old, new in renames.items():
        if new in renames:
            what = f"{old!r} becomes {new!r}, which is renamed too"
            yield _error(where, what, "make two rules: their order says what happens")
        if new in put:
            yield _error(where, f"{old!r} becomes {new!r}, which `set` sets", _ONE)


def _mask(where: str, mask: Mask) -> Iterator[ConfigError]:
    if isinstance(mask.find, Regex):
        try:
            compiled(mask.find, f"{where}.find")
        except ConfigError as error:
            yield error
    if mask != Mask() and not mask.fields and not any(getattr(mask, part) for part in MAPS):
        yield _error(where, "it names nothing to mask", f"give it one of {', '.join((*MAPS, 'fields'))}")


def _scale(here: str, scale: Scale) -> Iterator[ConfigError]:
    if (scale.multiply == 1) is (scale.divide == 1):
        yield _error(here, "it needs `multiply` or `divide`, one of them", "give it one")
    for name in ("multiply", "divide"):
        by = getattr(scale, name)
        if by < 1 or by > _POWER_MAX or by & (by - 1):
            what = f"{by} is not a power of two up to 2^60, so that a float64 could be rounded by it"
            yield _error(f"{here}.{name}", what, "use a power of two (1_024, 1_048_576), or scale in queries")


def _reach(here: str, rule: Rule) -> Iterator[ConfigError]:
    """Conditions that are judged later than what the rule changes is made."""
    of_points = bool(rule.when.attributes or rule.unless.attributes)
    of_metrics = any(getattr(each, name) for each in (rule.when, rule.unless) for name in ("metric", "type", "unit"))
    fix = "use conditions on org, datasource, resource and scope"
    if of_points:
        changed = [
            f"{act}.{part}" for act in _MAPS_OF for part in ("resource", "scope") if getattr(getattr(rule, act), part)
        ]
        changed += [name for name in ("scale", "metric_key") if getattr(rule, name)]
        changed += ["mask.fields"] if {"deviceId", "deviceName"} & {*rule.mask.fields} else []
        changed += ["leave_out"] if {*rule.leave_out} - {"attributes", "instance"} else []
        for what in changed:
            said = "is made once for many points, so that a condition on attributes of a point cannot decide about it"
            yield _error(f"{here}.{what}", said, "use other conditions, or change the point's own attributes")
    if rule.org and (of_points or of_metrics):
        yield _error(f"{here}.org", "is the same for all metrics of a device and datasource", fix)


def _order(rules: Sequence[Rule], at: str) -> Iterator[ConfigError]:
    """Rules that can never do what they say, because an earlier one decided."""
    seen: dict[tuple[bytes, bytes], tuple[int, Rule]] = {}
    for number, rule in enumerate(rules):
        if not rule.decides:
            continue
        key = (_key(rule.when), _key(rule.unless))
        if key in seen:
            before, other = seen[key]
            act = "drops" if other.drop else "keeps"
            what = f"rule {before + 1} ({other.name!r}) {act} the same rows before, so that this rule can never decide"
            yield _error(f"{at}.{number}.{'drop' if rule.drop else 'keep'}", what, "remove one of the two")
        seen.setdefault(key, (number, rule))


def _key(conditions: Conditions) -> bytes:
    return msgspec.json.encode(conditions, order="sorted")
