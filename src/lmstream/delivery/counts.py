"""What was done since the start, counted: of records, rows, requests. At all times the counts add up."""

from typing import Any, Final

from msgspec import Struct, field, structs

from lmstream.delivery.sums import Sums

_TOPICS: Final = 1_000  # topics that are counted by name; more come from no configuration, only from folders of letters


class Counts(Struct, kw_only=True):
    """What was done since the start. At all times: records = tombstones + delivered + dead_letters + given_back +
    in flight, rows = accepted + rows_dead + rows_given_back + rows in flight, and the two sums are right.
    """

    records: int = 0
    """Records taken up: transformed, or refused by the decoder."""
    understood: int = 0
    """Records that gave at least one data point, whatever became of it."""
    empty: int = 0
    """Records with a value and without a data point, in which nothing was wrong or unknown."""
    undecodable: int = 0
    """Records refused as a whole before any point was judged."""
    killers: int = 0
    """Records that were not transformed, because processes had died over them."""
    unjudged: int = 0
    """Records over which lmstream itself failed."""
    valueless: int = 0
    """Records without a value, taken up; `tombstones` counts those that are settled."""
    all_skipped: int = 0
    """Understood records that gave no row because all of their points were skipped or dropped by rules."""
    parts_undecodable: int = 0
    """Parts of bundles in which points could not be counted."""
    topic_rows: dict[str, int] = field(default_factory=dict)
    """Rows made, by topic."""
    topic_without_row: dict[str, int] = field(default_factory=dict)
    """Records with a value that gave no row, by topic."""
    tombstones: int = 0
    delivered: int = 0
    """Records of which every row was accepted."""
    dead_letters: int = 0
    """Records with a durable dead letter; its rows that were good were accepted too."""
    given_back: int = 0
    """Records transformed and left pending by a deadline: the host's source redelivers them."""
    points: int = 0
    """Data points in understood records; of a replay those that it judges."""
    rows: int = 0
    accepted: int = 0
    """Rows that the sink accepted."""
    rows_dead: int = 0
    """Rows that the sink refused permanently, in a durable dead letter."""
    rows_given_back: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    """Data points that rules dropped, by the rule's name."""
    rejected: dict[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    """Requests to the sink by outcome: ok, partial (some packs failed), throttled or error (all did), unknown (the
    outcome of some packs is not known)."""
    rows_lost: int = 0
    """Rows of windows that could not be made again, because their records were deleted from the topic."""
    packs: int = 0
    """Packs delivered."""
    bytes: int = 0
    """Bytes of packs delivered, as sent (neither base64 nor compressed)."""
    throttled: int = 0
    """Requests with a throttling answer in them."""
    retried_packs: int = 0
    """Packs sent again, once for each time."""
    unknown_outcomes: int = 0
    """Packs of requests with an unknown outcome: each may have landed and will be sent again."""

    @property
    def sums(self) -> Sums:
        """Where each record and each data point went, of those that were judged."""
        return Sums(
            records=self.records - self.unjudged,
            understood=self.understood,
            empty=self.empty,
            tombstones=self.valueless,
            undecodable=self.undecodable + self.killers,
            points=self.points,
            rows=self.rows,
            skipped=sum(self.skipped.values()) - self.skipped.get("record.tombstone", 0),
            dropped=sum(self.dropped.values()),
            rejected=sum(self.rejected.values()),
        )

    @property
    def rows_in_flight(self) -> int:
        """Rows made, and neither accepted nor in a durable dead letter."""
        return self.rows - self.accepted - self.rows_dead - self.rows_given_back

    @property
    def settled(self) -> int:
        """Records that were acknowledged."""
        return self.delivered + self.tombstones + self.dead_letters


def one_more(into: dict[str, int], topic: str, n: int = 1) -> None:
    """Count `n` into a topic, as long as there are not too many topics."""
    if topic in into or len(into) < _TOPICS:
        into[topic] = into.get(topic, 0) + n


def add(into: dict[str, int], more: dict[str, int]) -> None:
    """Count `more` into `into`."""
    for name, n in more.items():
        into[name] = into.get(name, 0) + n


def since(now: Counts, before: Counts) -> Counts:
    """What was counted since `before` was copied."""
    return Counts(**{name: _more(value, getattr(before, name)) for name, value in structs.asdict(now).items()})


def _more(now: Any, before: Any) -> Any:
    if isinstance(now, dict):
        return {name: n - before.get(name, 0) for name, n in now.items() if n != before.get(name, 0)}
    return now - before
