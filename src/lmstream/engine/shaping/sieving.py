"""What rules do to a metric below a resource and scope: the native part does it before anything is made of a bundle."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import defstruct

from lmstream.codecs.fragments import Counted
from lmstream.engine.known import Known
from lmstream.engine.shaping.conditions import Bits
from lmstream.engine.shaping.scaling import FAR, exponent
from lmstream.interfaces import Metric, Sieve
from lmstream.native import native
from lmstream.rules import Rule

_HERE: Final = frozenset({"resource", "scope", "metric"})
_KINDS: Final = 1024
_BYTES: Final = 4 * 1024 * 1024
_ENTRY: Final = 512
Verdict = tuple[int, int, dict[Metric, Metric] | None, int]
"""(number of the rule that drops metrics, or -1; power of two for their values; from a metric to what takes its place;
the rules that apply)."""


class Sieving:
    """Made of all rules of an engine.

    Of what rules do to a metric (drop or keep it, scale its values, change it), each kind of action goes through the
    sieve when all rules that have it look at nothing but resource, scope and metric: else what comes first, or comes of
    all of them, is not known before the rest is.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        bits: Bits,
        early: int,
        late: int,
        matched: Callable[[int], None],
        again: Callable[[Metric, int], Metric],
    ) -> None:
        """`early` and `late` are the rules that change metrics when these are made, and afterwards; `matched` is told
        the rules that apply to something; `again` makes a metric after rules."""
        self._bits, self._matched, self._again = bits, matched, again
        here = _some(rules, lambda number: bits.parts[number] <= _HERE)

        def all_here(actions: int) -> int:
            return 0 if actions & ~here else actions

        deciding = all_here(_some(rules, lambda number: rules[number].decides))
        self._drops = _some(rules, lambda number: rules[number].drop)
        self._deciding = deciding if deciding & self._drops else 0
        scales = all_here(_some(rules, lambda number: rules[number].scale is not None))
        self._powers = {1 << at: exponent(rule) for at, rule in enumerate(rules) if scales >> at & 1}
        self._alone = _some(rules, lambda number: bits.parts[number] <= {"metric"})
        self._late = scales | all_here(late & ~_some(rules, lambda number: rules[number].scale is not None))
        """The rules by which a metric is made again."""
        self.handled: Final = self._deciding | self._late
        """The rules of which nothing is left to do to metrics behind the sieve. What else they do is the plan's."""
        self._asked = self.handled | early
        self._kinds: dict[int, Any] = {}
        self._bits_of: dict[type[Metric], int] = {}
        self._known: Known[Metric] = Known()
        self._variants: dict[int, _Variants] = {}
        self._used = 0

    def sieve(self) -> Sieve | None:
        """For the native part, where it is and has something to do."""
        made = native("Sieve") if self.handled else None
        return None if made is None else made(self._passes, self._verdict, self._matched, Counted)

    def sieved(self, metric: Metric) -> Metric:
        """A metric for the native part, as rules leave it that look at nothing else. Its class says which rules may
        apply: the native part has the object at hand."""
        return self._known.made(metric, len(metric.piece), lambda: self._sieved(metric))

    def _sieved(self, metric: Metric) -> Metric:
        bits = metric.rules | ~(self._asked | self._asked << self._bits.count)
        if bits not in self._kinds:
            if len(self._kinds) >= _KINDS:
                return metric
            kind = self._kinds[bits] = _class()
            self._bits_of[kind] = bits
        alone = self._bits.apply(metric.rules) & self._asked & self._alone
        made = self._again(metric, alone) if alone & self._late else metric
        found: Metric = self._kinds[bits](made.piece, made.key, metric.rules, metric.sent)
        return found

    def _passes(self, resource: int, scope: int) -> bool:
        """Whether a bundle may go through in which a resource and scope have these bits."""
        return bool(resource & scope & self._bits.unnoted)

    def _verdict(self, resource: int, scope: int, kind: type[Metric]) -> Verdict | None:
        """What becomes of metrics of a class below a resource and scope of these bits; None where the bundle has to
        stay whole."""
        bits = self._bits_of.get(kind)
        if bits is None:
            return None
        rules = self._bits.apply(resource & scope & bits) & self._asked
        deciding = rules & self._deciding
        first = deciding & -deciding
        if first & self._drops:
            return first.bit_length() - 1, 0, None, deciding
        power = sum(power for rule, power in self._powers.items() if rule & rules)
        late = rules & self._late
        if not -FAR < power < FAR:
            return None
        if not late & ~self._alone:
            return -1, power, None, rules & self.handled
        if rules not in self._variants and len(self._variants) >= _KINDS:
            return None
        return -1, power, self._variants.setdefault(rules, _Variants(self, rules)), rules & self.handled

    def remade(self, metric: Metric, rules: int) -> Metric:
        """A metric after rules. All that were made so are forgotten when they are too many."""
        made = self._again(metric, rules)
        self._used += 2 * len(made.piece) + _ENTRY
        if self._used > _BYTES:
            for each in self._variants.values():
                each.clear()
            self._used = 2 * len(made.piece) + _ENTRY
        return made


class _Variants(dict[Metric, Metric]):
    """From a metric to what takes its place, by rules that apply to it."""

    def __init__(self, sieving: Sieving, rules: int) -> None:
        super().__init__()
        self._sieving, self._rules = sieving, rules

    def __missing__(self, metric: Metric) -> Metric:
        made = self[metric] = self._sieving.remade(metric, self._rules)
        return made


def _class() -> Any:
    return defstruct("Metric", (), bases=(Metric,), frozen=True, cache_hash=True, module=__name__)


def _some(rules: Sequence[Rule], chosen: Callable[[int], bool]) -> int:
    return sum(1 << number for number in range(len(rules)) if chosen(number))
