"""The broker dies, or is restarted, while a consumer is in the middle of its work. It must go on by itself."""

import asyncio
import signal
import time

import pytest

from apache_kafka.running import running


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_a_broker_that_comes_back_costs_no_row(ours, topic, module, tmp_path, say, number):
    await ours.create_topic(topic, 4)
    async with running(ours, module, topic, tmp_path) as run:
        await run.publish(600)
        expected = run.report().total.expected
        member = run.join()
        await run.until(lambda: len(run.sink.lines) > expected / 10, 30, "the first rows")
        await asyncio.to_thread(ours.stop, number)
        before = len(run.sink.lines)
        ours.launch()
        began = time.monotonic()
        await asyncio.to_thread(ours.wait)
        away = time.monotonic() - began
        await run.publish(60)
        total = run.report().total
        took = await run.until(lambda: run.report().total.landed == total.expected, 60, "the rest of the rows")
        await run.until(run.all_committed, 30, "all is committed")
        await run.leave(member)
        report = run.report()
    say(
        f"{before} of {total.expected} rows had landed; the rest {took:.1f} s after {away:.1f} s away; {report.total.duplicate} twice"
    )
    assert 0 < before < total.expected
    assert report.ok
