"""An event loop whose time jumps to whatever is due next: tests of hours take milliseconds, and a deadlock is seen."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from random import Random
from typing import Any, Final, TypeVar

T = TypeVar("T")


class DeadlockError(Exception):
    """Nothing is ready and nothing is due: everybody waits for somebody."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time stands still while something is ready, and jumps when nothing is. For what waits for no socket and no
    thread: those have no time of their own here."""

    def __init__(self) -> None:
        super().__init__()
        self.now: float = 1000.0
        """Seconds; what `time` answers."""
        selector: Any = self._selector  # type: ignore[attr-defined]  # of every selector loop since 3.4
        select = selector.select

        def jump(timeout: float | None = None) -> Any:
            events = select(0)
            if not events and timeout is None:
                raise DeadlockError
            if not events and timeout:
                self.now += timeout
            return events

        selector.select = jump

    def time(self) -> float:
        return self.now


class SeededLoop(VirtualLoop):
    """Virtual time, and callbacks that are ready together run in an order drawn from a seed: what a schedule finds,
    the same seed finds again.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._draw = Random(seed)

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            some = list(ready)
            self._draw.shuffle(some)
            ready.clear()
            ready.extend(some)
        super()._run_once()  # type: ignore[misc]


def run(coroutine: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] = VirtualLoop) -> T:
    """Run in virtual time; raises also what `told_to_run` was told."""
    wrong: list[AssertionError] = []
    before = _WRONG.set(wrong)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            result = runner.run(coroutine)
    finally:
        _WRONG.reset(before)
    for error in wrong:
        raise error
    return result


_WRONG: Final[ContextVar[list[AssertionError] | None]] = ContextVar("wrong", default=None)
"""What doubles found to be wrong in this `run`."""


@contextlib.contextmanager
def told_to_run() -> Iterator[None]:
    """For what a double asserts: who calls it takes an exception for one more fault, and continues."""
    try:
        yield
    except AssertionError as error:
        if (wrong := _WRONG.get()) is not None:
            wrong.append(error)
        raise


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """For schedules: what is logged in a storm is no news, and formatting it would be half of the time."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def now() -> float:
    """Seconds of the running loop: the `clock` of a Pipeline and a Runtime in virtual time."""
    return asyncio.get_running_loop().time()
