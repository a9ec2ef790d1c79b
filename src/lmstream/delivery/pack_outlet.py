"""The outlet of sinks that take packs: lines gathered by batch or by path, sent with retries, settled by verdicts."""

from collections.abc import Container

from lmstream.delivery.batching import Batcher
from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.known_dimensions import KnownDimensions, chunks
from lmstream.delivery.outlet import SENDING, Parts
from lmstream.delivery.rolling import RollPolicy
from lmstream.delivery.sender import Sender
from lmstream.delivery.transform import Cut, Transform
from lmstream.delivery.waiting import Waiting
from lmstream.engine import FanOut
from lmstream.errors import ConfigError
from lmstream.interfaces import Limits, Sink
from lmstream.model import Pack, TopicPartition
from lmstream.settings import Settings


class PackOutlet:
    """An Outlet of one sink."""

    def __init__(self, parts: Parts, sink: Sink, roll: RollPolicy) -> None:
        """`roll` is for object sinks. Raises ConfigError for an engine whose rows need dimension rows, and a sink that
        cannot have them beside its rows."""
        self._known: KnownDimensions | None = None
        if parts.engine.settings.dimensions:
            if why := unfit_for_keys(parts.engine.settings, sink.limits):
                raise ConfigError("config.invalid", why, "leave engine.dimensions out: each row says all of itself")
            self._known = KnownDimensions()
            parts.settlement.keyed = self._known.accepted
        self._limits = sink.limits
        self._parts = parts
        self._clock = parts.attempts.clock
        self._transform = Transform(parts.engine, sink.limits, parts.guard)
        self._batcher = Batcher(sink.limits, roll)
        self.waiting: Waiting = Waiting(parts.active, parts.attempts.policy.partition_seconds)
        self.way: Sender = Sender(sink, parts.attempts, parts.budget, parts.flight.counts)
        self.gathers_for: float = roll.age if sink.limits.by_path else 0.0

    @property
    def gathering_since(self) -> float | None:
        """Of lines gathered by path: what waits for the end of its batch is sent at once."""
        return self._batcher.since

    @property
    def hungry(self) -> bool:
        """Requests end, and free memory."""
        return False

    def suspects(self, each: InFlightRecord) -> bool:
        """Whether a process died over it: then it is transformed alone."""
        return self._transform.suspects(each)

    def make(self, each: InFlightRecord) -> None:
        """Make rows of one record, and gather them unless their hour has to wait."""
        settlement = self._parts.settlement
        made = self._transform.make(each)
        self._parts.flight.counts.unjudged -= 1
        if made is None:
            settlement.refused(each)
            return
        out, cuts = made
        if self._known is not None:
            cuts = [*self._dimensions(self._known, each, out), *cuts]
        if settlement.transformed(each, out, sum(len(data) for _, data, _ in cuts)):
            now = self._clock()
            if not self.waiting.holds(each, cuts, out, now):
                self._launch(self._batcher.add(each, cuts, now))

    def cut(self) -> None:
        """Send what is not gathered by path."""
        self._launch(self._batcher.cut())

    def tick(self, now: float) -> None:
        """Roll what is old enough, and take up what waited."""
        self._launch(self._batcher.due(now))
        if self.waiting:
            for each, cuts in self.waiting.due(now):
                self._launch(self._batcher.add(each, cuts, now))
            self._launch(self._batcher.cut())
            self._parts.tasks.changed.set()

    def flush(self) -> None:
        """Send what is gathered by path, whatever its age."""
        self._launch(self._batcher.flush())

    def passed(self, tp: TopicPartition, epoch: int, offset: int) -> None:
        """Packs know of no offsets."""

    def forget(self, partitions: Container[TopicPartition]) -> None:
        """Give back what waits; what is gathered is sent, and settles."""
        for each in self.waiting.remove(partitions):
            self._parts.flight.give_back(each)

    def clear(self) -> None:
        """Forget what is gathered and waits."""
        self.waiting.remove()
        self._batcher.clear()

    def close(self) -> None:
        """Leave no mark behind."""
        self._transform.close()

    def _dimensions(self, known: KnownDimensions, each: InFlightRecord, out: FanOut) -> list[Cut]:
        """The dimension rows that go in front of a record's rows: all that are not known to be accepted. What another
        record in flight brings does not count, for it may be refused, or never arrive."""
        each.keys = known.unknown(out.dimensions)
        found: list[Cut] = [("", data, 0) for data in chunks(each.keys, self._limits)]
        each.keys_open = len(found)
        return found

    def _launch(self, packs: list[Pack]) -> None:
        if packs:
            parts = self._parts
            deadline = parts.flight.records[packs[0].spans[0][0]].submission.deadline
            parts.tasks.spawn(self.way.deliver(packs, parts.settlement.judged, deadline), SENDING)


def unfit_for_keys(settings: Settings, limits: Limits) -> str:
    """Why dimension rows cannot lie beside the rows of a sink with these limits; empty when they can."""
    if limits.by_path:
        return "engine.dimensions: rows of this sink are gathered by path, and dimension rows would come after them"
    if limits.partitions and "{metricKey}" not in settings.path:
        return f"engine.dimensions: engine.path {settings.path!r} has no {{metricKey}}: dimension rows lie among rows"
    return ""
