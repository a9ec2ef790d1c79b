"""What all conformance suites share: a folder of its own for each check, hooks that may be async, and how they are run.

A suite is a class of tests that pytest collects; no plugin of pytest is needed, and not even pytest: see `failures`.
"""

import asyncio
import functools
import os
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from unittest import SkipTest

PATIENCE: Final = 120.0
"""Seconds that one check may take before it is called a hang."""

S = TypeVar("S", bound="Suite")


class Suite:
    """Subclass one of the suites, not this. Each check gets an instance of its own."""

    folder: Path
    """Empty when a check begins; removed after it."""

    def setup_method(self) -> None:
        """Called by pytest before each check."""
        self._temporary = tempfile.TemporaryDirectory(prefix="lmstream-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)

    def teardown_method(self) -> None:
        """Called by pytest after each check."""
        self._temporary.cleanup()

    async def up(self) -> None:
        """Start what the part talks to; before each check and each schedule, in the loop in which `make` is called."""

    async def down(self) -> None:
        """Stop it."""

    @classmethod
    @contextmanager
    def anew(cls) -> Iterator[Self]:
        """An instance with a folder, as pytest makes one for a check."""
        made = cls()
        made.setup_method()
        try:
            yield made
        finally:
            made.teardown_method()


def check(work: Callable[[S], Coroutine[Any, Any, None]]) -> Callable[[S], None]:
    """Make a coroutine a test that brings its own event loop."""

    @functools.wraps(work)
    def test(self: S) -> None:
        async def whole() -> None:
            await self.up()
            try:
                async with asyncio.timeout(PATIENCE):
                    await work(self)
            finally:
                await self.down()

        asyncio.run(whole())

    return test


def failures(suite: type[Suite]) -> dict[str, BaseException | None]:
    """Run a suite without pytest: by name of the check, why it failed, or None. Those it skips are left out."""
    found: dict[str, BaseException | None] = {}
    for name in dir(suite):
        if not name.startswith("test_"):
            continue
        with suite.anew() as one:
            try:
                getattr(one, name)()
            except SkipTest:
                continue
            except Exception as error:  # noqa: BLE001 - any of them is a check that failed
                found[name] = error
            else:
                found[name] = None
    return found


def skip_unless(overridden: bool, hook: str, what: str) -> None:  # noqa: FBT001 - read as a sentence where it is called
    """Skip a check that needs a hook nobody wrote."""
    if not overridden:
        raise SkipTest(f"override {hook}() to check {what}")


def seeds(count: int) -> list[int]:
    """The seeds of so many schedules; with LMSTREAM_SEED set, that one alone."""
    chosen = os.environ.get("LMSTREAM_SEED", "")
    return [int(chosen)] if chosen else list(range(1, count + 1))


async def closes(part: Any, what: str) -> None:
    """Close twice: hosts may, when they stop in the middle of a fault."""
    for time in ("once", "twice"):
        try:
            await part.close()
        except Exception as error:
            raise AssertionError(f"closing the {what} {time} raised {type(error).__name__}: {error}") from error


Answer = Awaitable[Any] | Any
