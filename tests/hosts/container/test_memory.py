"""Free memory is given back while much of the budget is in use, and only then."""

import asyncio
import ctypes
import sys
from types import SimpleNamespace

import pytest

from lmstream.hosts.container import memory
from lmstream.interfaces import Load


@pytest.mark.parametrize(("in_flight", "given"), [(51, True), (50, False)])
async def test_free_memory_is_given_back_while_half_of_the_budget_is_in_use(monkeypatch, in_flight, given):
    asked = []
    monkeypatch.setattr(memory, "EVERY", 0.001)
    monkeypatch.setattr(memory, "trimmer", lambda: lambda pad: asked.append(pad) or 1)
    async with memory.trimmed(SimpleNamespace(load=lambda: Load(in_flight, 100))):
        async with asyncio.timeout(10):
            while given and len(asked) < 3:  # noqa: ASYNC110 - a timer has no event
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
    assert bool(asked) is given
    assert set(asked) <= {0}
    before = len(asked)
    await asyncio.sleep(0.01)
    assert len(asked) == before  # it ends with the run


async def test_without_malloc_trim_nothing_is_done(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert memory.trimmer() is None
    async with memory.trimmed(SimpleNamespace(load=lambda: Load(1, 1))):
        pass


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason=f"no malloc_trim on {sys.platform}")
def test_it_is_the_c_librarys():
    trim = memory.trimmer()
    assert trim is not None
    assert trim(0) in {0, 1}
