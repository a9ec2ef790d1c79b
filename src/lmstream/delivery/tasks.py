"""Tasks that are not forgotten: how one ended is seen, and none is waited for longer than was said."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Background tasks of one owner. An error, or a cancellation by others, is kept in `error`."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[None], str] = {}
        self._kinds: Counter[str] = Counter()
        self.changed: asyncio.Event = asyncio.Event()
        """Set after each end; owners set it too, for whatever else others wait for."""
        self.error: BaseException | None = None

    def __bool__(self) -> bool:
        """Whether any is running."""
        return bool(self._running)

    def spawn(self, work: Coroutine[Any, Any, None], kind: str) -> None:
        """Run one more. `kind` is what `any_of` knows it by."""
        task = asyncio.get_running_loop().create_task(work)
        self._running[task] = kind
        self._kinds[kind] += 1
        task.add_done_callback(self._ended)

    def any_of(self, *kinds: str) -> bool:
        """Whether a task of one of these kinds was spawned and has not ended."""
        return any(self._kinds[kind] for kind in kinds)

    def raise_error(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.error is not None:
            raise self.error

    async def wait(self) -> None:
        """Wait for the next change."""
        self.changed.clear()
        await self.changed.wait()

    async def cancel(self) -> None:
        """Cancel all and wait for their ends, which are no errors."""
        tasks, self._running = self._running, {}
        self._kinds.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.changed.set()
        # A task that somebody else cancelled has left work undone: that must be seen, not waited for.
        e = RuntimeError("a task of the pipeline was cancelled from outside") if task.cancelled() else task.exception()
        if task not in self._running:
            return  # cancelled by us
        self._kinds[self._running.pop(task)] -= 1
        while isinstance(e, BaseExceptionGroup) and len(e.exceptions) == 1:
            e = e.exceptions[0]
        self.error = self.error or e


async def end(task: asyncio.Task[Any], seconds: float) -> None:
    """Cancel a task and wait for its end, but not for ever, and whatever it raises."""
    task.cancel()
    await asyncio.wait({task}, timeout=seconds)
    if task.done() and not task.cancelled():
        task.exception()  # seen, so that asyncio does not report it
