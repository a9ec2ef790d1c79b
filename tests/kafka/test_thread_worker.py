"""The thread for a library that blocks: calls in order, and what it does while it waits for the event loop."""

import asyncio
import threading

import pytest

from lmstream.kafka.group.thread_worker import Worker


@pytest.fixture
async def worker():
    made = Worker("test")
    yield made
    made.close()


async def test_calls_run_in_order_in_the_thread_and_what_they_raise_is_raised(worker):
    seen = []
    first = worker.call(lambda: seen.append(threading.current_thread().name))
    dropped = worker.call(lambda: seen.append("dropped"))
    dropped.cancel()
    with pytest.raises(ZeroDivisionError):
        await worker.call(lambda: 1 / 0)
    assert await worker.call(lambda: 7) == 7
    assert await first is None
    assert seen == ["test"]


async def test_a_thread_that_waits_for_the_loop_does_meanwhile_what_it_is_asked(worker):
    done = []
    assert not worker.call_meanwhile(lambda: done.append("nobody waits"))

    async def work():
        assert worker.call_meanwhile(lambda: done.append(threading.current_thread().name))
        async with asyncio.timeout(5):
            while not done:  # noqa: ASYNC110 - of another thread
                await asyncio.sleep(0.001)

    await worker.call(lambda: worker.wait_for(work(), 5))
    assert done == ["test"]
    assert not worker.call_meanwhile(lambda: done.append("nobody waits"))


async def test_a_call_as_the_coroutine_ends_is_run_or_refused_and_never_lost(worker):
    asked, done = [], []

    async def work():
        # Of the task itself, so right behind what tells the thread of its end: the thread has not woken yet.
        asyncio.current_task().add_done_callback(lambda _: asked.append(worker.call_meanwhile(lambda: done.append(1))))

    for _ in range(50):
        await worker.call(lambda: worker.wait_for(work(), 5))
    assert len(asked) == 50
    assert sum(asked) == len(done)


async def test_the_thread_does_not_wait_for_ever_and_hears_what_was_raised(worker):
    async def hangs():
        await asyncio.sleep(60)

    async def fails():
        raise RuntimeError("no")

    with pytest.raises(TimeoutError, match="did not answer"):
        await worker.call(lambda: worker.wait_for(hangs(), 0.05))
    assert not worker.call_meanwhile(lambda: None)
    with pytest.raises(RuntimeError, match="no"):
        await worker.call(lambda: worker.wait_for(fails(), 5))
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


def test_a_loop_that_is_closed_is_said_and_leaves_no_coroutine_behind():
    async def made():
        return Worker("test")

    async def work():
        pass

    worker = asyncio.run(made())
    with pytest.raises(RuntimeError, match="closed"):
        worker.wait_for(work(), 1)
    worker.close()
