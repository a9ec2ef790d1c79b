"""The circuit breaker: when most records are refused, the fault is rarely in the records, and reading stops."""

from collections import deque
from typing import Annotated, Final

from msgspec import Meta, Struct

from lmstream.model import Failure, Kind


class BreakerPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When too many records are refused. Counted in records, so that no clock decides what is dead-lettered."""

    records: Annotated[int, Meta(ge=0, le=1_000_000)] = 100
    """Length of the sliding window, and the fewest records that are judged; 0 switches the breaker off.
    Unit: records.
    Costs: letters: without a breaker a wrong setting dead-letters the whole topic.
    Limit: lmstream's own, against mistyped values: the window is kept in memory."""
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Share of them that may be refused; past it reading pauses and no further dead letter is written.
    Unit: share.
    Costs: letters: a higher share writes more of them before it pauses.
    Limit: 1 is all of them."""


_CAUSE: Final = 1_000  # characters of the last refusal that the message quotes


class CircuitBreaker:
    """A sliding window over the verdicts of one kind: what the engine says of records, or what the sink does."""

    def __init__(self, policy: BreakerPolicy, what: str) -> None:
        """`what` says who refuses, for the message."""
        self._policy = policy
        self._what = what
        self._window: deque[bool] = deque(maxlen=policy.records)
        self._refused = 0
        self.tripped: Failure | None = None
        """Set once, and permanently: after the cause is fixed, a new start is needed."""

    @property
    def share(self) -> float:
        """Share of the window that was refused, 0 while there is none."""
        return self._refused / len(self._window) if self._window else 0.0

    def saw(self, *, refused: bool, why: str = "") -> None:
        """Take the verdict on one more record; `why` it was refused."""
        window, policy = self._window, self._policy
        if self.tripped is not None or not policy.records:
            return
        if len(window) == policy.records:
            self._refused -= window[0]
        window.append(refused)
        self._refused += refused
        if len(window) == policy.records and self._refused > policy.share * policy.records:
            text = f"{self._what} {self._refused:,} of the last {policy.records:,} records"
            if why:
                text += f", the last is {why[:_CAUSE]}"
            self.tripped = Failure(Kind.FATAL_CONFIG, "dead_letters.breaker", text)


class CircuitBreakers:
    """Both windows: a deploy can break the engine, and a setting of the sink can make it refuse everything.

    Records that say nothing about either are not shown to them: tombstones, empty bundles, records of which all points
    were skipped on purpose (no recorded value, NaN). So a fleet of stale points stops no healthy service; and when each
    refused record comes with an empty one, half of the topic, the refused ones are all that is judged, and it trips.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self.decoding: CircuitBreaker = CircuitBreaker(policy, "no row could be made from")
        self.accepting: CircuitBreaker = CircuitBreaker(policy, "the sink refused")

    @property
    def tripped(self) -> Failure | None:
        """Why reading stopped, if it did."""
        return self.decoding.tripped or self.accepting.tripped

    @property
    def refusals(self) -> dict[str, tuple[float, bool]]:
        """By who refuses, `engine` or `sink`: the share of the last records, and whether reading stopped for that."""
        both = {"engine": self.decoding, "sink": self.accepting}
        return {name: (each.share, each.tripped is not None) for name, each in both.items()}
