"""Where a lane stands when it is assigned: its chain of claims, and which of their windows have to be made again."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from lmstream.errors import SinkError
from lmstream.interfaces import Assigned
from lmstream.lake.claims import Claim, Claims, Span, follows, name
from lmstream.lake.division import other_division
from lmstream.lake.lane import Opening

OPEN: Final = 1_000
"""Claims of which it may be unknown whether their objects are there. A member has a few of them under way."""


async def opened(
    claims: Claims,
    topic: str,
    lane: str,
    places: Mapping[int, Assigned],
    layout: str,
    writer: str,
    now: int,
    ends: Callable[[], Awaitable[Mapping[int, Span]]],
) -> Opening:
    """Find the chain of a lane whose partitions stand at `places`, or begin it, at `now` (Unix milliseconds).

    A chain begins where the lanes before it end, which `ends` answers, by partition; those that it does not name begin
    at their place. Raises SinkError `lake.chain` for a broken chain, `lake.lanes` for one that has ended.
    """
    head = await claims.head(topic, lane)
    if head is None:
        starts = {partition: Span(start=at.next, end=at.next) for partition, at in places.items()}
        starts |= await ends()
        first = Claim(
            topic=topic,
            lane=lane,
            sequence=0,
            kind="start",
            why="the first claim of this lane",
            spans=starts,
            done=0,
            layout=layout,
            writer=writer,
            at=now,
        )
        head = await claims.create(first)  # another group may begin at the same moment, elsewhere: its place holds
    if head.kind == "barrier":
        raise ended(head, claims)
    if absent := head.spans.keys() - places.keys():
        raise SinkError(
            "lake.lanes", f"{topic}/{lane}: its partitions {sorted(absent)} were not assigned with the others"
        )
    again = await not_done(claims, head)
    return _placed(head, again, places)


def ended(barrier: Claim, claims: Claims) -> SinkError:
    """Say that a lane has ended, because its topic is divided otherwise now."""
    assert barrier.next is not None  # noqa: S101 - for the type checker: a barrier has one
    place = claims.place(barrier.topic, barrier.lane, barrier.sequence)
    return other_division(barrier.topic, barrier.next, None, claims.requests.place(place))


def _placed(head: Claim, again: Sequence[Claim], places: Mapping[int, Assigned]) -> Opening:
    position: dict[int, int] = {}
    begins: dict[int, int] = {}
    jumps: dict[int, tuple[int, str]] = {}
    marks = {}
    for partition, at in places.items():
        span = head.spans.get(partition)
        if span is None:  # added to the topic since: the next claim has it
            position[partition] = begins[partition] = at.next
            continue
        accepted = not at.committed or at.next >= at.begin  # else the source judges what retention took
        if at.committed and at.next > span.end:
            why = "retention took what comes before" if at.next == at.begin else "the group was moved forward"
            jumps[partition] = at.next, why
        elif at.begin > span.end and accepted:
            jumps[partition] = at.begin, "retention took what comes before"
        if again:
            position[partition] = start = _first(again, partition)
            begins[partition] = max(start, at.begin) if accepted else start
            continue
        position[partition] = span.end
        begins[partition] = jumps[partition][0] if partition in jumps else span.end
        if partition not in jumps and span.last is not None and not at.same and at.begin <= span.last.offset:
            marks[partition] = span.last
            begins[partition] = span.last.offset
    ends = {partition: span.end for partition, span in head.spans.items()}
    lasts = {partition: span.last for partition, span in head.spans.items() if span.last is not None}
    return Opening(head.sequence + 1, position, again, marks, jumps, begins, ends, lasts, head.at)


def _first(claims: Sequence[Claim], partition: int) -> int:
    """Where a partition begins in the first of these claims that has it."""
    return next(claim.spans[partition].start for claim in claims if partition in claim.spans)


async def not_done(claims: Claims, head: Claim) -> list[Claim]:
    """The claims from the oldest on whose objects are not all there."""
    if head.sequence - head.done >= OPEN:
        detail = f"{head.topic}/{head.lane}: the claims from {head.done} to {head.sequence} are not known to be done"
        raise SinkError("lake.chain", detail)
    numbers = range(head.done, head.sequence)
    chain = [*await asyncio.gather(*(claims.get(head.topic, head.lane, n) for n in numbers)), head]
    for before, after in itertools.pairwise(chain):
        if wrong := follows(before, after):
            raise SinkError("lake.chain", f"{head.topic}/{head.lane}: {wrong}")
    for at, claim in enumerate(chain):
        if not await is_there(claims, claim):
            return chain[at:]
    return []


async def is_there(claims: Claims, claim: Claim) -> bool:
    """Whether all objects of a claim are there."""
    if not claim.every:
        return True
    extension = (await claims.layout(claim.layout)).extension
    # Some at a time: the first that is missing ends the look, and mostly that is one of the first.
    every = claim.every
    for start in range(0, len(every), 32):
        keys = [claims.rows + name(claim, entry, extension) for entry in every[start : start + 32]]
        if None in await asyncio.gather(*map(claims.requests.stat, keys)):
            return False
    return True
