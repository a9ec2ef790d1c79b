"""Tasks that are not forgotten: how one ended is seen, and none is waited for longer than was said."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """Background tasks of one owner. An error, or a cancellation by others, is kept in `error`."""

    def __init__(self, ended: Callable[[], None]) -> None:
        """`ended` is called after each end."""
        self._ended = ended
        self._running: set[asyncio.Task[None]] = set()
        self.error: BaseException | None = None

    def __bool__(self) -> bool:
        """Whether any is running."""
        return bool(self._running)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run one more."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._note)

    async def cancel(self) -> None:
        """Cancel all and wait for their ends, which are no errors."""
        tasks, self._running = self._running, set()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _note(self, task: asyncio.Task[None]) -> None:
        self._ended()
        # A task that somebody else cancelled has left work undone: that must be seen, not waited for.
        e = RuntimeError("a task of the pipeline was cancelled from outside") if task.cancelled() else task.exception()
        if task not in self._running:
            return  # cancelled by us
        self._running.discard(task)
        while isinstance(e, BaseExceptionGroup) and len(e.exceptions) == 1:
            e = e.exceptions[0]
        self.error = self.error or e


async def end(task: asyncio.Task[Any], seconds: float) -> None:
    """Cancel a task and wait for its end, but not for ever, and whatever it raises."""
    task.cancel()
    await asyncio.wait({task}, timeout=seconds)
    if task.done() and not task.cancelled():
        task.exception()  # seen, so that asyncio does not report it
