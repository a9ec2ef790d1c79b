"""Pieces of rows, shaped: as they are made, by rules about nothing else; and again where other parts of a row decide.

A piece that a rule with conditions about other parts may change keeps what was sent, from which it is made again for
the rules that apply: rules act in their order, whoever decided about them.
"""

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import msgspec
from msgspec import structs

from lmstream.codecs import fragments
from lmstream.codecs.fragments import Counted, Marked, MarkedAlone
from lmstream.engine.known import Known
from lmstream.engine.pool_values import Device, MetricOf, Point, ScopeOf
from lmstream.engine.shaping import actions
from lmstream.engine.shaping.conditions import Bits, Part
from lmstream.engine.shaping.literals import literals
from lmstream.engine.shaping.sieving import Sieving
from lmstream.interfaces import Metric, Resource, Scope, Sieve
from lmstream.rules import Rule

T = TypeVar("T")
_DEVICE: Final = msgspec.json.Decoder(Device)
_SCOPE: Final = msgspec.json.Decoder(ScopeOf)
_METRIC: Final = msgspec.json.Decoder(MetricOf)
_POINT: Final = msgspec.json.Decoder(Point)
_LISTS: Final = 1024
_KINDS: Final = 256
"""Classes of attributes by their marks; as many as all rules of a configuration hardly ever need."""


class PartShape(Generic[T]):
    """The rules that change one part: which of them can be applied when a piece is made, and which later."""

    def __init__(
        self,
        part: Part,
        bits: Bits,
        changes: dict[int, actions.Change],
        read: Callable[[bytes], T],
        write: Callable[[T], bytes],
        larger: Callable[[], None],
        held_back: int = 0,
    ) -> None:
        """`changes` are by number of the rule; those of `held_back` are late although they look at nothing else.
        `larger` is called when `largest` changed."""
        self._larger = larger
        self._bits, self._changes, self._read, self._write = bits, changes, read, write
        self.early: int = sum(1 << number for number in changes if bits.parts[number] <= {part}) & ~held_back
        """Rules that look at nothing else."""
        self.late: int = sum(1 << number for number in changes) & ~self.early
        self.every: int = self.early | self.late
        self._of: dict[int, list[actions.Change]] = {}
        """The changes of rules that apply together."""
        self._known: Known[bytes] = Known()
        self.largest: int = 0
        """Bytes of the largest piece that was made here."""

    def early_rules(self, bits: int) -> int:
        """Those that apply to a piece with these bits, whatever is known later."""
        return self._bits.apply(bits) & self.early

    def made(self, what: T, rules: int) -> bytes:
        """The piece of what a piece said, after these rules."""
        changes = self._of.get(rules)
        if changes is None:
            changes = [change for number, change in self._changes.items() if rules >> number & 1]
            if len(self._of) >= _LISTS:
                self._of.clear()
            self._of[rules] = changes
        for change in changes:
            change(what)
        piece = self._write(what)
        if len(piece) > self.largest:
            self.largest = len(piece)
            self._larger()
        return piece

    def again(self, sent: bytes, rules: int) -> bytes:
        """The piece of what was sent, after all rules that apply: those of `rules` that change this part."""
        key = (sent, rules & self.every)
        piece = self._known.get(key)
        return self._known.keep(key, len(sent), self.made(self._read(sent), rules)) if piece is None else piece


class Pieces:
    """Shapes pieces as codecs make them. `matched` collects the rules that applied to anything."""

    def __init__(self, rules: Sequence[Rule], larger: Callable[[int], object] = int) -> None:
        """`larger` is told `largest` when that grows. Raises ConfigError for patterns that cannot be."""
        self._told_larger = larger
        self.bits: Final = Bits(rules)
        self.matched: int = 0
        self.scales: Final = sum(1 << number for number, rule in enumerate(rules) if rule.scale is not None)
        """Rules about values, of which each decides whether it has the other unit."""
        self.largest: int = 0
        """Bytes of the largest resource, scope, metric and attributes together that rules made."""
        here = [f"engine.rules.{number}" for number in range(len(rules))]

        def by_number(change: Callable[[Rule, str], actions.Change | None]) -> dict[int, actions.Change]:
            found = {number: change(rule, here[number]) for number, rule in enumerate(rules)}
            return {number: each for number, each in found.items() if each is not None}

        self.resources: PartShape[Device] = PartShape(
            "resource", self.bits, by_number(actions.resource_change), _device, _device_piece, self._larger
        )
        self.scopes: PartShape[ScopeOf] = PartShape(
            "scope", self.bits, by_number(actions.scope_change), _scope, _scope_piece, self._larger
        )
        self.metrics: PartShape[MetricOf] = PartShape(
            "metric",
            self.bits,
            by_number(lambda rule, _: actions.metric_change(rule)),
            _metric,
            _metric_piece,
            self._larger,
            held_back=self.scales,
        )
        self.tails: PartShape[Point] = PartShape(
            "point", self.bits, by_number(actions.point_change), _point, _point_piece, self._larger
        )
        self.sieving: Final = Sieving(
            rules, self.bits, self.metrics.early, self.metrics.late, self._match, self.metric_again
        )
        elsewhere = self.resources.late | self.scopes.late | self.tails.late
        routing = sum(1 << number for number, rule in enumerate(rules) if rule.org)
        self._done = self.sieving.handled & ~(elsewhere | routing)
        """The rules of which a sieve does all, not only what they do to metrics."""
        self._same: dict[int, int] = {}
        self.possible: int = 0
        """Of the rules that are watched, those against which no metric and no point ever spoke as a whole."""
        self.behind_sieve: int = 0
        """Of these, what is left to do where a bundle went through the sieve."""
        self.points: Final = bool(self.bits.points or self.tails.every)
        """Whether any rule is about attributes of points."""
        self._late = self._metrics_seen = 0
        self._metrics: Known[Metric] = Known()
        self._metrics_again: Known[Metric] = Known()
        self._points_seen = 0 if self.points else -1
        self.marked: Final = bool(self.bits.points or self.tails.late)
        """Whether pieces of attributes have to carry their bits."""
        self._kinds: dict[int, type[Marked]] = {}
        self._quiet = self.bits.of_point({})
        """The bits of attributes of which no condition holds."""
        found = literals(rules, self.tails.early_rules(self._quiet))
        self._literals = found or ()
        """Attributes without any of these texts have those bits, and stay as they are."""
        self._looks, self._quiet_seen = found is not None, False
        self.watched: tuple[bytes, ...] | None = None
        """These texts, once attributes without them were read; None where pieces have marks."""

    def watch(self, late: int) -> None:
        """Keep `possible` for these rules."""
        self._late = late & self.bits.rules

    def resource(self, made: Resource) -> Resource:
        """A resource, shaped; with the bits that it has."""
        device = _device(made.piece)
        bits = self._above(self.bits.of("resource", device.resource), made)
        piece = self._early(self.resources, made.piece, device, bits)
        sent = made.piece if self.resources.late else b""
        return Resource(piece, made.org, made.noted, bits, sent)

    def scope(self, made: Scope) -> Scope:
        """A scope, shaped; its frame is whoever knows the epoch's to make."""
        said = _scope(made.piece)
        bits = self._above(self.bits.of("scope", said.scope, lambda _: said.datasource), made)
        piece = self._early(self.scopes, made.piece, said, bits)
        return Scope(piece, made.epoch, made.noted, b"", bits, made.piece if self.scopes.late else b"")

    def metric(self, made: Metric) -> Metric:
        """A metric, shaped. A codec that forgot it gets the same object: plans are looked up by metrics, and to compare
        others takes longer than all else that a plan costs."""
        return self._metrics.made(made, len(made.piece), lambda: self._metric(made))

    def _metric(self, made: Metric) -> Metric:
        said = _metric(made.piece)
        bits = self.bits.of("metric", {}, lambda name: getattr(said, name) or "")
        piece = self._early(self.metrics, made.piece, said, bits)
        self._metrics_seen |= bits
        self._look_again()
        return Metric(piece, said.metric_key, bits, made.piece if self.metrics.late else b"")

    def sieve(self, head: Callable[[bytes], Metric], budget: int) -> Sieve | None:
        """What the native part asks while it reads bundles of one codec."""
        return self.sieving.sieve(head, budget)

    def written_tail(self, made: bytes) -> bytes:
        """Attributes of a point in a piece that codecs of lmstream wrote, shaped."""
        if self._quiet_seen and b"\\" not in made:
            for text in self._literals:
                if text in made:
                    break
            else:
                return self._marked(made, made, self._quiet) if self.marked else made
        return self.tail(made)

    def tail(self, made: bytes) -> bytes:
        """Attributes of a point, shaped."""
        said = _point(made)
        bits = self.bits.of_point(said.attributes)
        piece = self._early(self.tails, made, said, bits)
        if bits & ~self._points_seen:
            self._points_seen |= bits
            self._look_again()
        if bits == self._quiet:
            self._quiet_seen = self._looks  # what it counts is counted from now on
            self.watched = self._literals if self._looks and not self.marked else None
        return self._marked(made, piece, bits) if self.marked else counted_as(made, piece)

    def resource_again(self, resource: Resource, rules: int) -> Resource:
        """A resource after rules that look at other parts. One that could not be read stays as it is."""
        if not resource.sent:
            return resource
        return structs.replace(resource, piece=self.resources.again(resource.sent, rules))

    def scope_again(self, scope: Scope, rules: int) -> Scope:
        """A scope after rules that look at other parts."""
        if not scope.sent:
            return scope
        return structs.replace(scope, piece=self.scopes.again(scope.sent, rules), frame=b"")

    def metric_again(self, metric: Metric, rules: int) -> Metric:
        """A metric after rules that look at other parts, or at values: the same object for all plans."""

        def made() -> Metric:
            piece = self.metrics.again(metric.sent, rules)
            return structs.replace(metric, piece=piece, key=_metric(piece).metric_key)

        return self._metrics_again.made((metric, rules & self.metrics.every), len(metric.piece), made)

    def tail_again(self, tail: Marked, rules: int) -> bytes:
        """Attributes after rules that look at other parts."""
        return counted_as(tail, self.tails.again(tail.sent, rules))

    def _marked(self, made: bytes, piece: bytes, bits: int) -> Marked:
        marked = counted_as(made, self._kind(bits)(piece))
        if isinstance(marked, MarkedAlone):
            marked.rules = bits
        if self.tails.late:
            marked.sent = made
        return marked

    def _kind(self, bits: int) -> type[Marked]:
        """The class of attributes with these bits."""
        found = self._kinds.get(bits)
        if found is None:
            if len(self._kinds) >= _KINDS:
                return MarkedAlone
            room = {} if self.tails.late else {"__slots__": ()}
            found = self._kinds[bits] = type("Marked", (Marked,), {"rules": bits} | room)
        return found

    def _above(self, bits: int, made: Resource | Scope) -> int:
        """The bits of a resource or scope: the same object for the same ones, as the native part knows them by it."""
        if made.noted:
            bits &= ~self.bits.unnoted
        if len(self._same) >= _LISTS:
            self._same.clear()
        return self._same.setdefault(bits, bits)

    def _match(self, rules: int) -> int:
        self.matched |= rules
        return self.matched

    def _larger(self) -> None:
        self.largest = sum(each.largest for each in (self.resources, self.scopes, self.metrics, self.tails))
        self._told_larger(self.largest)

    def _look_again(self) -> None:
        self.possible = self._late & self._metrics_seen & self._points_seen
        self.behind_sieve = self.possible & ~self._done

    def _early(self, shape: PartShape[T], sent: bytes, said: T, bits: int) -> bytes:
        rules = shape.early_rules(bits)
        self.matched |= rules
        return shape.made(said, rules) if rules else sent


B = TypeVar("B", bytes, Marked)


def counted_as(before: bytes, piece: B) -> B | Counted:
    """The piece, counted as the one that it stands for."""
    if type(before) is not Counted:
        return piece
    counted = Counted(piece)
    counted.empty = before.empty
    return counted


def _device(piece: bytes) -> Device:
    return _DEVICE.decode(b"{%b}" % piece[:-1])


def _device_piece(device: Device) -> bytes:
    return fragments.resource_piece(device.device_id, device.device_name, device.resource)


def _scope(piece: bytes) -> ScopeOf:
    return _SCOPE.decode(b"{%b}" % piece[:-1])


def _scope_piece(scope: ScopeOf) -> bytes:
    return fragments.scope_piece(scope.datasource, scope.scope)


def _metric(piece: bytes) -> MetricOf:
    return _METRIC.decode(b"{%b}" % piece[:-1])


def _metric_piece(metric: MetricOf) -> bytes:
    temporality = fragments.TEMPORALITIES.index(metric.temporality or "unspecified")
    monotonic = metric.monotonic is True
    return fragments.metric_piece(metric.metric, metric.metric_key, metric.unit, metric.type, temporality, monotonic)


def _point(piece: bytes) -> Point:
    return _POINT.decode(b"{" + piece[1:]) if len(piece) > 2 else Point()  # noqa: PLR2004 - `}\n`


def _point_piece(point: Point) -> bytes:
    return fragments.tail_piece(point.instance, point.attributes)
