"""The rules of an engine at work: on pieces, which codecs make, and on bundles, whose rows they drop and change."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct, structs

from lmstream.codecs.fragments import UNREAD, Marked, MarkedAlone, encode
from lmstream.engine.shaping.pieces import Pieces
from lmstream.engine.shaping.plan import ASK, Plan, Planner
from lmstream.engine.shaping.values import put_cut, put_metrics, scale_values
from lmstream.interfaces import Bundle, Series
from lmstream.native import native
from lmstream.rules import Rule

_PLANNED: Final = 65_536
"""Metrics of plans that are remembered."""
_ORGS: Final = 4096
_APPLIED: Final = 65_536
_ALL: Final = [bytes((verdict,)) for verdict in range(ASK)]


class Shaped(Struct, gc=False):
    """A bundle after its rules: all of its points, and which of them make no row."""

    bundle: Bundle
    fixed: str
    """The organization of all rows; empty when each resource says its own."""
    verdicts: bytes = b""
    """Of each point: 0 where it makes a row, else the number behind that of the rule that drops it; empty where all
    make one."""
    rows: int = 0
    """How many do, beside verdicts."""
    drops: Sequence[int] = ()
    """The rules that may drop any."""


class Shaping:
    """Made once for an engine. `pieces` is for its codecs."""

    def __init__(self, rules: Sequence[Rule], larger: Callable[[int], object] = int) -> None:
        """`larger` is as of Pieces. Raises ConfigError for patterns that cannot be."""
        self.names: Final = [rule.name for rule in rules]
        self.pieces: Final = Pieces(rules, larger)
        self._rules = rules
        self._bits = self.pieces.bits
        self._sift, self._scale = native("sift"), native("scale")
        self._planner = Planner(rules, self.pieces)
        self.pieces.watch(self._planner.late)
        self._orgs: dict[str, int] = {}
        self._plans: dict[Any, Plan] = {}
        self._planned = 0
        self._applied: dict[int, int] = {}

    @property
    def idle(self) -> list[str]:
        """Names of rules that applied to nothing so far."""
        return [name for number, name in enumerate(self.names) if not self.pieces.matched >> number & 1]

    def shape(self, bundle: Bundle, fixed: str) -> Shaped | None:
        """The bundle after all rules; None when its rows are as its pieces are. `fixed` is the organization that the
        settings give."""
        n = len(bundle.times)
        possible = self.pieces.possible if bundle.sifted is None else self.pieces.behind_sieve
        if not n or not possible:
            return None
        plan = self._plan(bundle, fixed, possible)
        if plan is None or plan.nothing:
            return None
        stops, tails, verdicts = bundle.stops, bundle.tails, b""
        if plan.drops or plan.again:
            verdicts, tails = self._verdicts(bundle, plan)
            if bundle.odd:
                verdicts = _without_unread(verdicts, bundle.odd)
        # In place: a codec of lmstream keeps no bundle, and of others' own_pieces makes new ones.
        bundle.tails = tails
        if plan.other_heads:
            self._with_heads(bundle, plan, verdicts)
        if plan.changed:  # by the metrics that were read, not those that a value's unit cut apart
            bundle.series, fixed = self._series(bundle.series, stops, plan, fixed)
        rows = verdicts.count(0) if verdicts else n
        return Shaped(bundle, fixed) if rows == n else Shaped(bundle, fixed, verdicts, rows, plan.drops)

    def _plan(self, bundle: Bundle, fixed: str, possible: int) -> Plan | None:
        """None when none of the rules that are possible can apply to any of it."""
        orgs = self._orgs
        bits, all_bits = [], 0
        for series in bundle.series:
            org = fixed or series.resource.org
            of_org = orgs.get(org)
            of_series = (self._org(org) if of_org is None else of_org) & series.resource.rules & series.scope.rules
            bits.append(of_series)
            all_bits |= of_series
        if not all_bits & possible:
            return None
        heads = tuple(bundle.heads)
        sifted = bundle.sifted is not None
        key: tuple[Any, ...] = sifted, all_bits, heads
        ends = [len(heads)]
        if len(bits) > 1:
            ends = [bisect_left(bundle.stops, series.stop) + 1 for series in bundle.series]
            key = (sifted, *bits, *ends, heads)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._planner.plan(bits, ends, heads, sifted=sifted)
            self.pieces.matched |= plan.matched
            self._planned += len(key) + len(heads)
            if self._planned > _PLANNED:
                self._plans.clear()
                self._planned = len(key) + len(heads)
            self._plans[key] = plan
        return plan

    def _org(self, org: str) -> int:
        bits = self._bits.of("org", {}, lambda _: org)
        if len(self._orgs) >= _ORGS:
            self._orgs.clear()
        if len(org) <= _ORGS:
            self._orgs[org] = bits
        return bits

    def _verdicts(self, bundle: Bundle, plan: Plan) -> tuple[bytes, Sequence[bytes]]:
        """Of each point, and the attributes after rules that look at other parts."""
        codes, tails = plan.codes, bundle.tails
        if self._sift is not None and bundle.texts and not plan.again and type(codes) is bytes:
            found = self._sift(codes, bundle.stops, tails, plan.verdicts)
            if found is not None:
                return found, tails
        if plan.again:
            tails = list(tails)
        verdicts: list[bytes] = []
        start = 0
        for code, stop in zip(codes, bundle.stops, strict=True):
            of_all = code < ASK
            verdicts.append(_ALL[code] * (stop - start) if of_all else self._ask(plan, code - ASK, tails, start, stop))
            start = stop
        return b"".join(verdicts), tails

    def _ask(self, plan: Plan, number: int, tails: Any, start: int, stop: int) -> bytes:
        """The verdicts of a metric's points, by the marks of their attributes, which are changed in place. Classes of
        marks are few, and with them what is known."""
        asked, late = plan.asked[number], self.pieces.tails.late if plan.again else 0
        known = asked.verdicts
        verdicts = bytearray(stop - start)
        for at, tail in enumerate(tails[start:stop]):
            if not isinstance(tail, Marked):  # of a point that was not read
                continue
            verdict = known.get(type(tail))
            if verdict is None:
                rules = self._apply(asked.bits & tail.rules)
                first = (deciding := rules & asked.deciding) & -deciding
                number = first.bit_length()
                verdict = number if number and self._rules[number - 1].drop else 0
                self.pieces.matched |= first if verdict else rules
                if not isinstance(tail, MarkedAlone):
                    known[type(tail)] = verdict
            if verdict:
                verdicts[at] = verdict
            elif late and (rules := self._apply(asked.bits & tail.rules)) & late:
                self.pieces.matched |= rules
                tails[start + at] = self.pieces.tail_again(tail, rules)
        return bytes(verdicts)

    def _apply(self, bits: int) -> int:
        rules = self._applied.get(bits)
        if rules is None:
            rules = self._bits.apply(bits)
            if len(self._applied) >= _APPLIED:
                self._applied.clear()
            self._applied[bits] = rules
        return rules

    def _with_heads(self, bundle: Bundle, plan: Plan, verdicts: bytes) -> None:
        """Put the plan's metrics into a bundle, and its values in their units. Where one that is not dropped cannot be
        scaled, its metric is cut into several."""
        if plan.runs:
            texts = None
            if bundle.texts and self._scale is not None:
                texts = self._scale(bundle.texts, bundle.stops, plan.packed, encode)
            if texts is not None:
                bundle.texts = texts
            else:
                unscaled = scale_values(bundle, plan)
                if verdicts:
                    unscaled = {at: metric for at, metric in unscaled.items() if not verdicts[at]}
                if unscaled:
                    bundle.noted["scale.inexact"] = len(unscaled)
                    put_cut(bundle, plan, unscaled)
                    return
        put_metrics(bundle, plan)

    def _series(
        self, series: Sequence[Series], stops: Sequence[int], plan: Plan, fixed: str
    ) -> tuple[list[Series], str]:
        """The series, cut where rules about metrics change their resource or scope; and the organization of all."""
        routed = any(each.org for each in plan.changed)
        made: list[Series] = []
        each_of = zip(plan.changed, stops, strict=True)
        for one in series:
            at = one.start
            before: tuple[int, int, str] | None = None
            while at < one.stop:
                start = at
                (for_resource, for_scope, org), at = next(each_of)
                if before == (for_resource, for_scope, org):
                    made[-1].stop = at
                    continue
                before = (for_resource, for_scope, org)
                resource, scope = one.resource, one.scope
                if for_resource:
                    resource = self.pieces.resource_again(resource, for_resource)
                if for_scope:
                    scope = self.pieces.scope_again(scope, for_scope)
                if routed:
                    resource = structs.replace(resource, org=org or fixed or resource.org)
                made.append(Series(resource, scope, start, at))
        return made, "" if routed else fixed


def _without_unread(verdicts: bytes, odd: dict[int, bytes | str]) -> bytes:
    """Points that were not read are refused, not dropped: what they are is unknown."""
    found = bytearray(verdicts)
    for at, why in odd.items():
        if why in UNREAD:
            found[at] = 0
    return bytes(found)
