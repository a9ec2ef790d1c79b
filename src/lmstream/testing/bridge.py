"""Real parts in virtual time: a call runs to its end in an event loop of its own, while the virtual clock stands still.

So a sink with threads or sockets takes part in a schedule, and the schedule stays the same for the same seed.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")
PATIENCE: Final = 60.0
"""Seconds of real time that one call may take."""


class Bridge:
    """A thread with an event loop, from `with` to its end."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lmstream.testing.bridge", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(TimeoutError):
            self.call(_clear())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        if not self._thread.is_alive():
            self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it to its end; blocks who calls. Raises what it raises, TimeoutError after a minute."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def cut(self, work: Coroutine[Any, Any, Any], steps: int) -> None:
        """Run it for so many steps of its loop, then cancel it: a process that is killed in the middle."""
        self.call(_cut(work, steps))


async def answer(given: T | Awaitable[T]) -> T:
    """What a hook returned, awaited if it has to be."""
    if isinstance(given, Awaitable):
        return await given
    return given


async def _cut(work: Coroutine[Any, Any, Any], steps: int) -> None:
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen: whatever became of it, nobody was there to be told


async def _clear() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=PATIENCE / 2)
    await asyncio.get_running_loop().shutdown_default_executor()
