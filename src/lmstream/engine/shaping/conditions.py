"""Conditions of all rules as bits: which hold for one part of a row, and which rules then apply to the row.

Bit i says that no `when` of rule i is against the part, bit K+i that no `unless` is. A part that a rule says nothing
about has both bits. Of a rule without any `unless` the second bit is cleared from the start.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from lmstream.rules import Conditions, Rule, Texts
from lmstream.rules.patterns import Holds, holds

Part = Literal["org", "resource", "scope", "metric", "point"]
PARTS: Final[tuple[Part, ...]] = ("org", "resource", "scope", "metric", "point")
_OF: Final[dict[str, Part]] = {
    "org": "org",
    "datasource": "scope",
    "metric": "metric",
    "type": "metric",
    "unit": "metric",
    "resource": "resource",
    "scope": "scope",
    "attributes": "point",
}
"""Which part says it."""
_FIELDS: Final = ("org", "datasource", "metric", "type", "unit")


class _Test(NamedTuple):
    """One condition: without it, these bits go."""

    bits: int
    name: str
    """Of a field, or of an attribute."""
    holds: Holds


class Bits:
    """The bits of a list of rules."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Raises ConfigError for patterns that cannot be."""
        self.count: Final = len(rules)
        self.rules: Final = (1 << self.count) - 1
        """All rules."""
        self.unnoted: Final = 1 << 2 * self.count
        """Behind all rules' bits: a part without it notes something of each of its points."""
        self.parts: list[frozenset[Part]] = []
        """By rule, what it has conditions about."""
        self.without_unless: int = 0
        """Second bits of rules without `unless`: cleared from the start."""
        self._fields: dict[Part, list[_Test]] = {part: [] for part in PARTS}
        self._attributes: dict[Part, list[_Test]] = {part: [] for part in PARTS}
        for number, rule in enumerate(rules):
            self._add(1 << number, f"engine.rules.{number}.when", rule.when)
            self._add(1 << (self.count + number), f"engine.rules.{number}.unless", rule.unless)
            if not rule.unless.given:
                self.without_unless |= 1 << (self.count + number)
            self.parts.append(frozenset((*_parts(rule.when), *_parts(rule.unless))))
        self.points: int = sum(1 << number for number, parts in enumerate(self.parts) if "point" in parts)
        """Rules with conditions about points."""

    def of(self, part: Part, attributes: dict[str, str], fields: Callable[[str], str] = str) -> int:
        """What holds for a part with these attributes; `fields` answers its fields by name."""
        bits = -1
        for test in self._fields[part]:
            if not test.holds(fields(test.name)):
                bits &= ~test.bits
        return bits & self._of_attributes(self._attributes[part], attributes)

    def of_point(self, attributes: dict[str, str]) -> int:
        """What holds for attributes of a point."""
        return self._of_attributes(self._attributes["point"], attributes) if self.points else -1

    @staticmethod
    def _of_attributes(tests: list[_Test], attributes: dict[str, str]) -> int:
        bits = -1
        for test in tests:
            value = attributes.get(test.name)
            if value is None or not test.holds(value):
                bits &= ~test.bits
        return bits

    def apply(self, bits: int) -> int:
        """The rules that apply to what has these bits, of all of its parts."""
        bits &= ~self.without_unless
        return bits & ~(bits >> self.count) & self.rules

    def may(self, bits: int) -> int:
        """The rules that may apply to points of which all other parts together have these bits: conditions about points
        are not known yet."""
        return (self.apply(bits) | (bits & self.points)) & self.rules

    def _add(self, bit: int, where: str, conditions: Conditions) -> None:
        for name in _FIELDS:
            texts: Texts | None = getattr(conditions, name)
            if texts is not None:
                self._fields[_OF[name]].append(_Test(bit, name, holds(texts, f"{where}.{name}")))
        for name in ("resource", "scope", "attributes"):
            every: dict[str, Texts] = getattr(conditions, name)
            for key, texts in every.items():
                self._attributes[_OF[name]].append(_Test(bit, key, holds(texts, f"{where}.{name}.{key}")))


def _parts(conditions: Conditions) -> Iterator[Part]:
    return (_OF[name] for name in Conditions.__struct_fields__ if getattr(conditions, name) not in (None, {}))
