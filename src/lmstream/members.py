"""Consumer groups in words: what to do without the name of one, and who else is in it."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

FORMER_GROUP: Final = "lmstream"
"""The group of versions that had a default for it."""
NO_GROUP: Final = (
    "source.group is not set. Members of one group share the topics: two deployments without a name of their own would "
    "each get half"
)
GROUP_FIX: Final = (
    f'to continue where the version before this one left off, set source.group = "{FORMER_GROUP}" (or --group); a new '
    "deployment takes a name of its own"
)
NAMED: Final = 10
"""Members of a group that one message names."""


class Fellow(Struct, frozen=True, kw_only=True):
    """A member of the group: a process that shares the topics."""

    client: str
    """What it calls itself."""
    host: str
    reads: Mapping[str, tuple[int, ...]]
    """Partitions by topic; none of a topic while the group divides them anew."""

    def __str__(self) -> str:
        reads = ", ".join(f"{topic}/{_spans(numbers)}" if numbers else topic for topic, numbers in self.reads.items())
        who, host = self.client or "a member without a name", self.host.lstrip("/")  # brokers exist that tell neither
        return f"{who}{f' at {host}' if host else ''} reads {reads or 'nothing yet'}"


def _spans(numbers: Sequence[int]) -> str:
    """Numbers in short: 0-3,7."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ",".join("-".join(map(str, span)) for span in spans)


def fellows(found: Sequence[Fellow]) -> str:
    """Members for a person, the first ten of them."""
    more = len(found) - NAMED
    named = "; ".join(map(str, found[:NAMED]))[:2000]
    return named + (f"; and {more:,} more" if more > 0 else "")
