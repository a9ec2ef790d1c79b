"""Ask, on behalf of one member, where partitions are to begin that its group has just given it."""

import asyncio
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from lmstream.delivery.tasks import end
from lmstream.errors import LmstreamError, SourceError
from lmstream.interfaces import Assign, Assigned
from lmstream.kafka.group.lost import LostError
from lmstream.model import TopicPartition

if TYPE_CHECKING:
    from lmstream.kafka.group.supervisor import Supervisor


class Placement:
    """The question of `Supervisor.on_assign`, in a bounded time. On the event loop."""

    def __init__(self, source: "Supervisor") -> None:
        self._source = source
        # Heartbeats continue meanwhile, but when the group rebalances once more, it waits for us to join for the
        # rebalance timeout only. What has to fit into that is bounded already: the drain, which comes at another time.
        self.seconds: float = source.settings.drain_timeout_ms / 1000
        """How long an answer may take."""
        self.partitions: frozenset[TopicPartition] = frozenset()
        """What is being placed: nothing of these may be read."""
        self._asking: asyncio.Task[Mapping[TopicPartition, int]] | None = None

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be asked."""
        return self._source.on_assign is not None

    def begin(self, partitions: Collection[TopicPartition]) -> None:
        """Take these as being placed, when anybody is to be asked about them."""
        self.partitions = frozenset(partitions) if self.wanted else frozenset()

    async def ask(self, stands: Mapping[TopicPartition, Assigned]) -> Mapping[TopicPartition, int]:
        """Where to begin in those of them that are to begin elsewhere than at `next`. They are placed then.

        Raises LostError when there is no answer that can be used: the next member asks again. An error of lmstream that
        another member would not change (SinkError, ConfigError) is raised as it is, and ends the run.
        """
        ask = self._source.on_assign
        if ask is None or not stands:
            self.partitions = frozenset()
            return {}
        self._asking = task = asyncio.create_task(_answer(ask, stands))
        try:
            await asyncio.wait({task}, timeout=self.seconds)
            late = not task.done()
        finally:
            self._asking = None
            await end(task, 1)
        if late or task.cancelled():
            raise LostError("place", f"no answer within {self.seconds:g} s where assigned partitions are to begin")
        if (error := task.exception()) is not None:
            if final(error):
                raise error
            raise LostError(
                "place", f"where assigned partitions are to begin: {type(error).__name__}: {error}"
            ) from error
        places = {tp: offset for tp, offset in task.result().items() if tp in stands}
        for tp, offset in places.items():
            if offset < 0:  # librdkafka would take it for a beginning or an end
                raise LostError("place", f"{tp.topic}/{tp.partition} is to begin at {offset}, which is no offset")
        self.partitions = frozenset()
        return places

    def close(self) -> None:
        """Wait for no answer any more."""
        if self._asking is not None:
            self._asking.cancel()


def final(error: BaseException) -> bool:
    """Whether another member would meet the same error: the operator has to act."""
    return isinstance(error, LmstreamError) and not isinstance(error, SourceError)


async def _answer(ask: Assign, stands: Mapping[TopicPartition, Assigned]) -> Mapping[TopicPartition, int]:
    """As a coroutine, whatever the function is."""
    return await ask(stands)
