"""A thread for a client library that blocks: calls in order, awaited from the event loop, not waited for at exit."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

_RETURN: Final = 5.0  # seconds for the answer of a coroutine that has ended
Call = tuple[Callable[[], Any], asyncio.Future[Any]]


class Worker:
    """One daemon thread: unlike those of an executor, one that hangs in a library does not keep the process alive."""

    def __init__(self, name: str) -> None:
        """Start the thread, for the event loop that runs now."""
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        # What the thread is to do while it waits for a coroutine. Set by the thread, unset on the loop when that ends.
        self._meanwhile: queue.SimpleQueue[Callable[[], None] | None] | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function after those before it. Cancelling the answer before its turn keeps it from running."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((function, future))
        return future

    def call_meanwhile(self, function: Callable[[], None]) -> bool:
        """Run a function while the thread waits for a coroutine (`wait_for`); False when it does not."""
        if self._meanwhile is None:
            return False
        self._meanwhile.put(function)
        return True

    def wait_for(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """In the thread: run a coroutine on the event loop and wait for its answer, but not for ever: the loop may be
        ending.

        Raises what it raises, TimeoutError when it takes longer, and RuntimeError when the loop is closed.
        """
        until = time.monotonic() + seconds
        calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

        async def ending() -> T:
            try:
                return await work
            finally:
                # On the loop, where calls come from: none is put into a queue that nobody empties any more.
                self._meanwhile = None
                calls.put(None)

        self._meanwhile = calls
        whole = ending()
        try:
            future = asyncio.run_coroutine_threadsafe(whole, self._loop)
        except RuntimeError:
            self._meanwhile = None
            whole.close()
            work.close()
            raise
        try:
            while (call := calls.get(timeout=max(0.0, until - time.monotonic()))) is not None:
                call()
        except queue.Empty:
            raise TimeoutError("the event loop did not answer") from None
        finally:
            self._meanwhile = None
        return future.result(_RETURN)

    def close(self) -> None:
        """End the thread after what it has to do; does not wait."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            if future.cancelled():
                continue
            result, error = None, None
            try:
                result = function()
            except BaseException as caught:  # noqa: BLE001 - it belongs to whoever awaits the call
                error = caught
            try:
                self._loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
        future.exception()  # seen: who has stopped waiting must not hear of it from the loop
