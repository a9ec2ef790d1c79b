"""Background tasks: which kinds run, how one ended, and that a cancellation of ours is no error."""

import asyncio

import pytest

from lmstream.delivery.tasks import Tasks
from lmstream.testing import run


async def nap(seconds=1.0):
    await asyncio.sleep(seconds)


def test_a_kind_runs_from_its_spawn_to_its_end():
    async def main():
        tasks = Tasks()
        tasks.spawn(nap(1), "sending")
        tasks.spawn(nap(2), "writing")
        assert tasks.any_of("sending")  # before its first step
        await asyncio.sleep(1.5)
        assert (tasks.any_of("sending"), tasks.any_of("writing"), bool(tasks)) == (False, True, True)
        await tasks.wait()
        assert (tasks.any_of("sending", "writing"), bool(tasks), tasks.error) == (False, False, None)
        tasks.raise_error()

    run(main())


def test_what_is_cancelled_here_is_forgotten_and_no_error_even_before_its_first_step():
    async def main():
        tasks = Tasks()
        tasks.spawn(nap(), "sending")
        await tasks.cancel()
        await asyncio.sleep(0)
        assert (tasks.any_of("sending"), bool(tasks), tasks.error) == (False, False, None)
        tasks.spawn(nap(), "sending")  # it can go on
        assert tasks.any_of("sending")
        await tasks.wait()
        assert not tasks.any_of("sending")

    run(main())


def test_what_others_cancel_and_what_breaks_is_an_error_and_the_first_stays():
    async def main():
        async def broken():
            async with asyncio.TaskGroup() as group:
                group.create_task(nap(0))
                raise LookupError("a bug")

        tasks = Tasks()
        tasks.spawn(broken(), "sending")
        await tasks.wait()
        with pytest.raises(LookupError):  # not the group around it
            tasks.raise_error()
        tasks.spawn(nap(), "sending")
        await asyncio.sleep(0)
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        await tasks.wait()
        assert isinstance(tasks.error, LookupError)

        others = Tasks()
        others.spawn(nap(), "sending")
        await asyncio.sleep(0)
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        await others.wait()
        with pytest.raises(RuntimeError, match="cancelled from outside"):
            others.raise_error()

    run(main())
