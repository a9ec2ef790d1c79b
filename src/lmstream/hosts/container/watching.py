"""Look after a run while it lasts: whether it is ready, and what only the brokers know while it does not read."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

from lmstream.abilities import Looking, Retained
from lmstream.model import TopicPartition
from lmstream.observability.readings import Readings

LOOK: Final = 1.0
"""Seconds between two looks whether the run is ready: how exactly it is known since when it is not."""
ASK: Final = 10.0
"""Seconds between two questions to the brokers while something is not known."""
RETENTION: Final = 300.0
"""Seconds between two questions for the topics' retention, which is raised when somebody needs time."""
_BOUND: Final = 30.0  # seconds for the answers
_log: Final = logging.getLogger("lmstream.run")


@contextlib.asynccontextmanager
async def watching(readings: Readings) -> AsyncIterator[None]:
    """Look and ask while the block lasts. What cannot be asked costs nothing but the answer."""
    tasks = [asyncio.create_task(_look(readings)), asyncio.create_task(_ask(readings))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _look(readings: Readings) -> None:
    while True:
        readings.ready()
        await asyncio.sleep(LOOK)


async def _ask(readings: Readings) -> None:
    asked, unsure = -RETENTION, False
    stood: dict[TopicPartition, int] = {}
    while True:
        try:
            async with asyncio.timeout(_BOUND):
                if time.monotonic() - asked >= RETENTION:
                    await ask_retention(readings)
                    asked = time.monotonic()
                # Twice in a row: that nothing is read is an everyday thing for a moment.
                before, unsure = unsure, readings.unsure
                last, stood = stood, _positions(readings)
                if before and unsure:
                    # Not where records are settled: to see the first record its batch is opened, beside the run's own.
                    await _ends_of(readings, {tp: n for tp, n in stood.items() if last.get(tp, n) == n})
        except Exception as e:  # noqa: BLE001 - whatever a client raises: the run itself says what is wrong with Kafka
            _log.debug("the brokers do not say how much time is left: %s: %s", type(e).__name__, e)
        await asyncio.sleep(ASK)


async def ask_ends(readings: Readings) -> None:
    """See where partitions begin and end, and what waits first in them. Raises what the source raises."""
    await _ends_of(readings, _positions(readings))


def _positions(readings: Readings) -> dict[TopicPartition, int]:
    ledger = readings.runtime.ledger
    return {tp: max(each.next or 0, ledger.position(tp) or 0) for tp, each in readings.standings().items()}


async def _ends_of(readings: Readings, start: dict[TopicPartition, int]) -> None:
    source, rebalances = readings.runtime.source, readings.rebalances
    if start and isinstance(source, Looking):
        readings.looked(await source.look(start), rebalances)


async def ask_retention(readings: Readings) -> None:
    """Learn how long the topics keep records. Raises what the source raises."""
    source = readings.runtime.source
    if isinstance(source, Retained):
        readings.retentions = await source.retentions()
