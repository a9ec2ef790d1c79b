"""Give memory back to the system that the C library keeps for later, while much of the byte budget is in use."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from lmstream.delivery import Pipeline
from lmstream.delivery.tasks import end
from lmstream.kafka.heap import trimmer

EVERY: Final = 1.0
"""Seconds between two looks."""


@contextlib.asynccontextmanager
async def trimmed(pipeline: Pipeline) -> AsyncIterator[None]:
    """While this is open and half of the budget is in use, free memory is given back once a second.

    Payloads, lines and packs of all sizes come and go: glibc keeps the gaps between them, which grew to 50 MiB while a
    slow sink had 64 MiB in flight. Only then, because it is then the sink that sets the pace: what is given back has to
    be asked for again, and costs a busy process more than it is worth.
    """
    trim = trimmer()
    task = asyncio.create_task(_trimming(pipeline, trim)) if trim is not None else None
    try:
        yield
    finally:
        if task is not None:
            await end(task, EVERY)


async def _trimming(pipeline: Pipeline, trim: Callable[[int], int]) -> None:
    while True:
        await asyncio.sleep(EVERY)
        load = pipeline.load()
        if load.held > load.budget // 2:
            trim(0)
