"""What rules do to a bundle of this make: decided by metric, and remembered for bundles that are made alike."""

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from lmstream.codecs.fragments import Marked
from lmstream.engine.shaping.actions import NUMBERS
from lmstream.engine.shaping.pieces import Pieces
from lmstream.engine.shaping.scaling import exponent
from lmstream.interfaces import Metric
from lmstream.rules import Rule

_RUN: Final = Struct("<3i")
Run = tuple[int, int, int]
"""(first metric, behind the last, power of two)."""
ASK: Final = 128
"""Codes from here on ask for each point; rules have smaller numbers (rules.form: RULES_MAX)."""
_BYTE: Final = 255


class Scaled(NamedTuple):
    """Values of a metric in another unit."""

    metric: int
    """Its place among the bundle's metrics, as below."""
    power: int
    """Of two."""
    otherwise: Metric
    """The metric of rows whose value cannot be scaled."""


class Changed(NamedTuple):
    """What late rules change above a metric."""

    resource: int
    """The rules that apply to its rows, if they change their resource; else 0."""
    scope: int
    org: str
    """The organization that a rule gives; empty when none does."""


class Asked(NamedTuple):
    """What metrics have in common of which rules decide by the point, or change attributes of points."""

    bits: int
    """Of all other parts, as far as they matter."""
    deciding: int
    """The rules to ask, first to last; 0 where nothing is left to decide."""
    verdicts: dict[type[Marked], int]
    """By the class of a point's attributes, as far as it was asked: 0, or the number behind that of the rule that drops
    it."""


class Plan(NamedTuple):
    """What becomes of a bundle with these metrics."""

    codes: bytes | list[int]
    """By metric: 0 where all points are kept, the number behind that of the rule that drops them all, or ASK and the
    place in `asked`; bytes where these are small enough."""
    asked: tuple[Asked, ...]
    verdicts: list[dict[type[Marked], int]]
    """Of each of these."""
    drops: tuple[int, ...]
    """The rules that drop any of it, or may."""
    again: bool
    """Whether rules may change attributes of points once more."""
    heads: tuple[Metric, ...]
    pieces: tuple[tuple[int, bytes], ...]
    """Of those that are not as the codec made them."""
    scaled: tuple[Scaled, ...]
    runs: tuple[Run, ...]
    """The same, those that follow one another together."""
    packed: bytes
    """The same for the native part: see native/src/scaling.rs. A plan that was long not used is in no cache of the
    processor, and this is the least to fetch."""
    changed: tuple[Changed, ...]
    """By metric, when anything is changed above any of them."""
    matched: int
    """The rules that apply to any of it, as far as that does not depend on points."""
    other_heads: bool
    """Whether any of `heads` is not as the codec made it."""
    nothing: bool
    """Whether all stays as it is."""


class Planner:
    """Makes plans."""

    def __init__(self, rules: Sequence[Rule], pieces: Pieces) -> None:
        self._rules, self._pieces, self._bits = rules, pieces, pieces.bits
        self.deciding: Final = sum(1 << number for number, rule in enumerate(rules) if rule.decides)
        """Rules that drop or keep."""
        self._drops: Final = sum(1 << number for number, rule in enumerate(rules) if rule.drop)
        self._routing: Final = sum(1 << number for number, rule in enumerate(rules) if rule.org)
        self._late: Final = pieces.metrics.late
        self.late: int = self.deciding | self._routing
        """Rules of which something is left to do when pieces are made."""
        for each in (pieces.resources, pieces.scopes, pieces.metrics, pieces.tails):
            self.late |= each.late

    def plan(self, bits: Sequence[int], ends: Sequence[int], heads: Sequence[Metric], *, sifted: bool) -> Plan:
        """`bits` are those of each series: organization, resource and scope together; `ends` is the metric behind the
        last one of each. `sifted` are metrics of a bundle that went through the sieve."""
        open_ = ~self._pieces.sieving.handled if sifted else -1
        all_deciding = self.deciding & open_
        codes: list[int] = []
        asked: dict[tuple[int, int], int] = {}
        drops = again = 0
        made: list[Metric] = []
        scaled: list[Scaled] = []
        changed: list[Changed] = []
        matched = start = 0
        for of_series, end in zip(bits, ends, strict=True):
            for at in range(start, end):
                both = of_series & heads[at].rules
                rules = self._bits.apply(both) & ~self._bits.points
                decision, open_rules = self._decide(both, rules, all_deciding)
                all_of_it = decision >= 0 and self._rules[decision].drop and not open_rules
                matched |= 1 << decision if all_of_it else rules
                made.append(self._head(heads[at], rules, at, open_, [] if all_of_it else scaled))
                changed.append(self._changed(rules))
                code = 0
                may = self._bits.may(both)
                if all_of_it:
                    code = decision + 1
                    drops |= 1 << decision
                elif open_rules or may & self._pieces.tails.late:
                    deciding = open_rules and may & all_deciding
                    drops |= deciding
                    again |= may & self._pieces.tails.late
                    code = ASK + asked.setdefault((self._of_points(both, deciding), deciding), len(asked))
                codes.append(code)
            start = end
        if not any(each.resource or each.scope or each.org for each in changed):
            changed = []
        both_heads = enumerate(zip(heads, made, strict=True))
        pieces = [(at, after.piece) for at, (before, after) in both_heads if before is not after]
        dropping = tuple(number for number, rule in enumerate(self._rules) if drops >> number & 1 and rule.drop)
        runs = runs_of(scaled)
        every = tuple(Asked(*each, {}) for each in asked)
        return Plan(
            bytes(codes) if max(codes, default=0) <= _BYTE else codes,
            every,
            [each.verdicts for each in every],
            dropping,
            bool(again),
            tuple(made),
            tuple(pieces),
            tuple(scaled),
            runs,
            packed(runs),
            tuple(changed),
            matched,
            bool(pieces),
            not (dropping or again or pieces or changed),
        )

    def _of_points(self, bits: int, deciding: int) -> int:
        """The bits of the rules that points are asked for, or that change their attributes: of others metrics may
        differ."""
        rules = deciding | self._pieces.tails.every | self._bits.points
        return bits & (rules | rules << self._bits.count)

    def _decide(self, bits: int, rules: int, deciding: int) -> tuple[int, int]:
        """(the rule that decides about a metric, or -1; rules about points that come before it and may decide)."""
        decision = _first(rules & deciding)
        before = (1 << decision) - 1 if decision >= 0 else -1
        may = self._bits.may(bits) & deciding
        return decision, may & self._bits.points & before if may & self._drops else 0

    def _head(self, head: Metric, rules: int, at: int, open_: int, scaled: list[Scaled]) -> Metric:
        if not rules & self._late & open_:
            return head
        made = self._pieces.metric_again(head, rules)
        if rules & self._pieces.scales & open_ and any(b'"type":"%b"' % kind.encode() in head.sent for kind in NUMBERS):
            power = sum(exponent(rule) for number, rule in enumerate(self._rules) if rules >> number & 1)
            otherwise = self._pieces.metric_again(head, rules & ~self._pieces.scales)
            scaled.append(Scaled(at, power, otherwise))
        return made

    def _changed(self, rules: int) -> Changed:
        routed = _first(rules & self._routing)
        return Changed(
            rules if rules & self._pieces.resources.late else 0,
            rules if rules & self._pieces.scopes.late else 0,
            self._rules[routed].org if routed >= 0 else "",
        )


def runs_of(scaled: Sequence[Scaled]) -> tuple[Run, ...]:
    """Metrics that follow one another, together."""
    runs: list[Run] = []
    for metric, power, _ in scaled:
        if runs and runs[-1][1:] == (metric, power):
            runs[-1] = (runs[-1][0], metric + 1, power)
        else:
            runs.append((metric, metric + 1, power))
    return tuple(runs)


def packed(runs: Sequence[Run]) -> bytes:
    """Each as three 32-bit integers."""
    return b"".join(_RUN.pack(*run) for run in runs)


def _first(rules: int) -> int:
    """The number of the first; -1 without any."""
    return (rules & -rules).bit_length() - 1
