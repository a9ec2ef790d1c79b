"""What rules do for a resource and scope, or for a metric alone: the native part does it before anything is made."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import defstruct

from lmstream.engine.known import Known
from lmstream.engine.shaping.conditions import Bits
from lmstream.engine.shaping.scaling import FAR, exponent
from lmstream.interfaces import Metric, Resource, Scope, Sieve
from lmstream.rules import Rule

_OPEN: Final = 255
"""The code of what no rule decides about."""
_ABOVE: Final = frozenset({"resource", "scope"})
_METRIC: Final = frozenset({"metric"})
_KNOWN: Final = 65_536
_KINDS: Final = 1024
_ELSEWHERE: Final = (_OPEN, 1 << 20)
"""With such a power of two the native part leaves all to the code behind the sieve."""


class ScaledMetric(Metric, frozen=True, cache_hash=True):
    """A metric of values that the native part scales."""

    unscaled: Metric = Metric(b"", "")
    """That of the values as they were sent."""


class Sieving:
    """Made of all rules of an engine.

    Rules that drop or keep go through the sieve when all of them look at nothing but resource and scope, or nothing but
    the metric: else one that comes first may decide otherwise. Rules that scale do when all look at nothing but the
    metric.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        bits: Bits,
        matched: Callable[[int], None],
        again: Callable[[Metric, int], Metric],
    ) -> None:
        """`matched` is told the rules that apply to something; `again` makes a metric after rules."""
        self._bits, self._matched, self._again = bits, matched, again
        self._metric = _some(rules, lambda number: bits.parts[number] <= _METRIC)
        above = _some(rules, lambda number: bits.parts[number] <= _ABOVE)
        deciding = _some(rules, lambda number: rules[number].decides)
        if deciding & ~(above | self._metric) or not any(rule.drop for rule in rules):
            deciding = 0
        scales = _some(rules, lambda number: rules[number].scale is not None)
        if scales & ~self._metric:
            scales = 0
        self.scales: Final = bool(scales)
        self._code = {1 << at: 2 * at + rule.drop for at, rule in enumerate(rules)}
        self._power = {1 << at: exponent(rule) for at, rule in enumerate(rules) if scales >> at & 1}
        self._above, self._deciding = deciding & above, deciding & self._metric
        self.handled: Final = deciding | scales
        """The rules of which nothing is left to do behind the sieve."""
        self._codes: dict[int, int] = {}
        self._kinds: dict[tuple[int, int], type[Metric]] = {}
        self._of_kind: dict[type[Metric], tuple[int, int]] = {}
        self._known: Known[Metric] = Known()
        self.sieve: Sieve | None = None
        if self.handled:
            self.sieve = Sieve(self._of_series, Metric, self._of_kind)

    def sieved(self, metric: Metric) -> Metric:
        """A metric for the native part, which asks for its class, as it has the object at hand. That of scaled values
        is in their new unit."""
        if not self.handled:
            return metric
        return self._known.made(metric, len(metric.piece), lambda: self._sieved(metric))

    def _sieved(self, metric: Metric) -> Metric:
        rules = self._bits.apply(metric.rules) & self._metric
        self._matched(rules & self.handled)
        power = sum(power for rule, power in self._power.items() if rule & rules)
        key = self._first(rules & self._deciding), power
        if key == (_OPEN, 0):
            return metric
        if abs(power) >= FAR or len(self._kinds) >= _KINDS:
            key = _ELSEWHERE
        kind: Any = self._kinds.get(key)
        if kind is None:
            base = ScaledMetric if key[1] else Metric
            kind = defstruct("Metric", (), bases=(base,), frozen=True, cache_hash=True, module=__name__)
            self._kinds[key], self._of_kind[kind] = kind, key
        scaled = (metric,) if key[1] else ()
        made = self._again(metric, rules) if scaled else metric
        found: Metric = kind(made.piece, made.key, made.rules, made.sent, *scaled)
        return found

    def _of_series(self, resource: Resource, scope: Scope) -> int | None:
        if resource.noted or scope.noted:
            return None  # all points are counted, dropped ones too
        bits = resource.rules & scope.rules
        code = self._codes.get(bits)
        if code is None:
            if len(self._codes) >= _KNOWN:
                self._codes.clear()
            rules = self._bits.apply(bits) & self._above
            self._matched(rules)
            code = self._codes[bits] = self._first(rules)
        return code

    def _first(self, rules: int) -> int:
        return self._code[rules & -rules] if rules else _OPEN


def unscaled(metrics: Sequence[Metric]) -> list[Metric]:
    """Metrics for values that were not scaled."""
    return [metric.unscaled if isinstance(metric, ScaledMetric) else metric for metric in metrics]


def alone(rules: Sequence[Rule], bits: Bits) -> int:
    """The rules that look at nothing but resource and scope, or nothing but the metric."""
    return _some(rules, lambda number: bits.parts[number] <= _ABOVE or bits.parts[number] <= _METRIC)


def _some(rules: Sequence[Rule], chosen: Callable[[int], bool]) -> int:
    return sum(1 << number for number in range(len(rules)) if chosen(number))
