"""Wait for a condition that has no event, with a bound: never sleep and hope."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], seconds: float = 30.0, what: str = "") -> None:
    """Return once the condition holds; AssertionError after so many seconds of the running loop, virtual or not."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what or condition} did not come within {seconds} s") from None
