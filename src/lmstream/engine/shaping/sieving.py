"""What rules do for a resource and scope, or for a metric alone: the native part does it before anything is made."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import defstruct

from lmstream.codecs.fragments import Counted
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
"""Such a power of two is for the code behind the sieve, and with it the bundle."""


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
        self._code = {1 << at: 2 * at + rule.drop for at, rule in enumerate(rules)}
        self._power = {1 << at: exponent(rule) for at, rule in enumerate(rules) if scales >> at & 1}
        self._scales, self._above, self._deciding = scales, deciding & above, deciding & self._metric
        self.handled: Final = deciding | scales
        """The rules of which nothing is left to do behind the sieve."""
        self._codes: dict[int, int] = {}
        self._kinds: dict[int, type[Metric]] = {}
        self._known: Known[Metric] = Known()
        self._of_kind = _Kinds(self._say)
        self.sieve: Sieve | None = None
        if self.handled:
            self.sieve = Sieve(self._of_series, Metric, self._of_kind, Counted)

    def sieved(self, metric: Metric) -> Metric:
        """A metric for the native part, which asks for its class, as it has the object at hand. That of scaled values
        is in their new unit."""
        if not self.handled:
            return metric
        return self._known.made(metric, len(metric.piece), lambda: self._sieved(metric))

    def unsieved(self, metrics: Sequence[Metric]) -> Sequence[Metric]:
        """Metrics of a bundle that was left as it is, for values that were not scaled."""
        if not self._scales:
            return metrics
        return [metric.unscaled if isinstance(metric, ScaledMetric) else metric for metric in metrics]

    def _sieved(self, metric: Metric) -> Metric:
        rules = self._bits.apply(metric.rules) & self._metric
        handled = rules & self.handled
        if not handled:
            return metric
        if handled not in self._kinds and len(self._kinds) >= _KINDS:
            handled = 0
        kind: Any = self._kinds.get(handled)
        if kind is None:
            base = ScaledMetric if handled & self._scales else Metric
            kind = defstruct("Metric", (), bases=(base,), frozen=True, cache_hash=True, module=__name__)
            self._of_kind.rules[kind] = handled
            self._kinds[handled] = kind
        scaled = (metric,) if handled & self._scales else ()
        made = self._again(metric, rules) if scaled else metric
        found: Metric = kind(made.piece, made.key, made.rules, made.sent, *scaled)
        return found

    def _say(self, rules: int) -> tuple[int, int]:
        """The code and the power of metrics to which these rules apply, of those that are handled."""
        if not rules:
            return _ELSEWHERE
        self._matched(rules)
        power = sum(power for rule, power in self._power.items() if rule & rules)
        return self._first(rules & self._deciding), power if abs(power) < FAR else _ELSEWHERE[1]

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


class _Kinds(dict[type[Metric], tuple[int, int]]):
    """From a class of metrics to what is said of it, once it is asked: then there is such a metric in a bundle that was
    read to its end."""

    def __init__(self, say: Callable[[int], tuple[int, int]]) -> None:
        super().__init__()
        self._say = say
        self.rules: dict[type[Metric], int] = {}
        """By class, which rules apply; 0 where there are too many classes."""

    def __missing__(self, kind: type[Metric]) -> tuple[int, int]:
        made = self[kind] = self._say(self.rules[kind])
        return made


def _some(rules: Sequence[Rule], chosen: Callable[[int], bool]) -> int:
    return sum(1 << number for number in range(len(rules)) if chosen(number))
