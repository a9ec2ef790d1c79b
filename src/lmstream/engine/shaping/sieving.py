"""What rules do to a metric below a resource and scope, and to its points, while the native part reads a bundle."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from lmstream.codecs.fragments import Counted, Marked, MarkedAlone
from lmstream.engine.shaping.conditions import Bits
from lmstream.engine.shaping.scaling import FAR, exponent
from lmstream.interfaces import Metric, Sieve
from lmstream.native import native
from lmstream.rules import Rule

_ABOVE: Final = frozenset({"resource", "scope"})
_HERE: Final = _ABOVE | {"metric"}
_KINDS: Final = 1024
_ENTRY: Final = 512


class Sieving:
    """Made of all rules of an engine.

    Of what rules do to a metric (drop or keep it, scale its values, change it), each kind of action goes through the
    sieve when all rules that have it look at nothing but resource, scope and metric, and those that drop or keep at
    attributes of points: else what comes first, or comes of all of them, is not known before the rest is.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        bits: Bits,
        early: int,
        late: int,
        matched: Callable[[int], int],
        again: Callable[[Metric, int], Metric],
    ) -> None:
        """`early` and `late` are the rules that change metrics when these are made, and afterwards; `matched` is told
        the rules that apply to something, and answers all that were told; `again` makes a metric after rules."""
        self._rules, self._bits, self._matched, self._again = rules, bits, matched, again

        def all_there(actions: int, parts: frozenset[str]) -> int:
            return 0 if actions & ~_some(rules, lambda number: bits.parts[number] <= parts) else actions

        deciding = all_there(_some(rules, lambda number: rules[number].decides), _HERE | {"point"})
        self._drops = _some(rules, lambda number: rules[number].drop)
        self._deciding = deciding if deciding & self._drops else 0
        of_values = _some(rules, lambda number: rules[number].scale is not None)
        scales = all_there(of_values, _HERE)
        self._powers = {1 << at: exponent(rule) for at, rule in enumerate(rules) if scales >> at & 1}
        self._late = scales | all_there(late & ~of_values, _HERE)
        """The rules by which a metric is made again."""
        self.handled: Final = self._deciding | self._late
        """The rules of which nothing is left to do to metrics and their points behind the sieve. What else they do is
        the plan's."""
        self._asked = self.handled | early
        self.names: Final = [rule.name for rule in rules]
        self._sieve: Any = native("Sieve")
        self._decided: Any = native("Decided")
        self._verdicts: dict[tuple[int, int], _Verdicts] = {}
        self.untold: list[Any] = []
        """(where something is remembered, by what, the rules that apply to it), since the last bundle that was read."""

    def sieve(self, head: Callable[[bytes], Metric], budget: int) -> Sieve | None:
        """For a codec, where the native part is and has something to do."""
        return OfCodec(self, self._sieve, head, budget) if self.handled and self._sieve is not None else None

    def above(self, resource: int, scope: int) -> int | None:
        """What matters of the bits of a resource and scope; None where a bundle that has these has to stay whole."""
        bits = resource & scope
        return bits | ~self._of(self._asked) if bits & self._bits.unnoted else None

    def dropped(self, above: int) -> tuple[int, bool]:
        """The number behind that of the rule that drops all below a resource and scope of these bits, or 0; and whether
        that may become another: a rule that drops anything is told first."""
        known = _some(self._rules, lambda number: self._bits.parts[number] <= _ABOVE)
        may = self._deciding & (above & ~known | self._bits.apply(above) & known)
        first = may & -may
        if not first & known & self._drops:
            return 0, False
        told = bool(first & self._matched(0))
        return first.bit_length() if told else 0, not told

    def decided(self, metric: Metric, above: int) -> tuple[Any, int]:
        """What becomes of a metric below a resource and scope of these bits, as the native part takes it; and the rules
        that apply to it."""
        bits = above & metric.rules
        may = self._bits.may(bits) & self._asked
        rules = may & ~self._bits.points
        deciding = rules & self._deciding
        first = deciding & -deciding
        of_points = may & self._bits.points & self._deciding & (first - 1)  # those before it; all where there is none
        if not may & self._deciding & self._drops:
            of_points = 0
        if first & self._drops and not of_points:
            return self._decided(metric, first.bit_length(), 0, None), first
        power = sum(power for rule, power in self._powers.items() if rule & rules)
        points = self._of_points(bits, may & self._deciding) if of_points else None
        if not -FAR < power < FAR or (of_points and points is None):
            return None, 0
        made = self._again(metric, rules) if rules & self._late else metric
        if power or points is not None:
            return self._decided(made, 0, power, points), rules & self.handled
        return made, rules & self.handled

    def _of_points(self, bits: int, deciding: int) -> "_Verdicts | None":
        bits &= self._of(deciding)
        if (bits, deciding) not in self._verdicts and len(self._verdicts) >= _KINDS:
            return None
        return self._verdicts.setdefault((bits, deciding), _Verdicts(self, bits, deciding))

    def verdict(self, verdicts: dict[Any, Any], kind: type, bits: int, deciding: int) -> int | None:
        """What becomes of points whose attributes have this class, where all else has these bits: 0, or the number
        behind that of the rule that drops them. None where the class says too little."""
        if not issubclass(kind, Marked) or issubclass(kind, MarkedAlone):
            return None
        rules = self._bits.apply(bits & kind.rules) & deciding
        first = rules & -rules
        drop = first & self._drops
        self.untold.append((verdicts, kind, drop or rules))
        return drop.bit_length()

    def settle(self, *, sifted: bool) -> None:
        """A bundle was read. The rules that apply to it are told if it went through the sieve; else what was found
        is forgotten."""
        while self.untold:
            of, key, rules = self.untold.pop()
            if sifted:
                self._matched(rules)
            else:
                of.pop(key, None)

    def _of(self, rules: int) -> int:
        """All bits of these rules."""
        return rules | rules << self._bits.count


class OfCodec:
    """The sieve of one codec, which reads metrics by bytes of its own format."""

    def __init__(self, sieving: Sieving, sieve: Any, head: Callable[[bytes], Metric], budget: int) -> None:
        """`sieve` is the native class; `head` makes a metric of its bytes; `budget` in bytes is for all that is
        remembered."""
        self._sieving, self._head, self._budget = sieving, head, budget
        self._used = 0
        self._heads: dict[int, _Heads] = {}
        self._raws: dict[bytes, bytes] = {}
        """Each once for all resources and scopes: what is looked up seldom is in no cache of the processor."""
        self.native: Final = sieve(self._below, Counted, sieving.names)
        self.untold: Final = sieving.untold
        self._waits = False

    def settle(self, *, sifted: bool) -> None:
        """See `Sieving.settle`."""
        self._sieving.settle(sifted=sifted)
        if self._waits:
            self._waits = False
            self.native.clear()

    def clear(self) -> None:
        """Forget what was remembered."""
        self._used = 0
        self._raws.clear()
        for each in self._heads.values():
            each.clear()

    def made(self, heads: "_Heads", raw: bytes) -> Any:
        """What becomes of a metric of these bytes."""
        head = self._head(raw)
        found, rules = self._sieving.decided(head, heads.above)
        size = len(raw) + 2 * len(head.piece) + _ENTRY
        self._used += size
        if self._used > self._budget:
            self.clear()
            self._used = size
        heads[self._raws.setdefault(raw, raw)] = found
        self.untold.append((heads, raw, rules))
        return found

    def _below(self, resource: int, scope: int) -> "_Heads | int | None":
        above = self._sieving.above(resource, scope)
        if above is None or (above not in self._heads and len(self._heads) >= _KINDS):
            return None
        dropped, waits = self._sieving.dropped(above)
        if dropped:
            return dropped - 1
        self._waits |= waits
        return self._heads.setdefault(above, _Heads(self, above))


class _Heads(dict[bytes, Any]):
    """From a metric's bytes to what becomes of it below a resource and scope of these bits: see `Sieving.decided`."""

    def __init__(self, of: OfCodec, above: int) -> None:
        super().__init__()
        self._of = of
        self.above: Final = above

    def __missing__(self, raw: bytes) -> Any:
        return self._of.made(self, raw)


class _Verdicts(dict[type, int | None]):
    """See `Sieving.verdict`."""

    def __init__(self, sieving: Sieving, bits: int, deciding: int) -> None:
        super().__init__()
        self._sieving, self._of = sieving, (bits, deciding)

    def __missing__(self, kind: type) -> int | None:
        verdict = self[kind] = self._sieving.verdict(self, kind, *self._of)
        return verdict


def _some(rules: Sequence[Rule], chosen: Callable[[int], bool]) -> int:
    return sum(1 << number for number in range(len(rules)) if chosen(number))
