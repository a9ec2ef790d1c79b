"""Members of one group that come, stay and go while bundles arrive."""

import asyncio

from apache_kafka.running import running


def shares(*sources):
    """How many partitions each has; -1 when one is owned twice."""
    owned = [tp for source in sources for tp in source.assignment]
    return [len(source.assignment) for source in sources] if len(owned) == len(set(owned)) else [-1]


async def test_members_come_and_go_and_every_row_lands_once(cluster, topic, module, tmp_path, say):
    await cluster.create_topic(topic, 6)
    group = cluster.group
    bound = (group["rebalance_timeout_ms"] + group["session_timeout_ms"]) / 1000 + 10
    took = {}
    async with running(cluster, module, topic, tmp_path) as run:
        going = True
        publishing = asyncio.create_task(run.publish(rate=80, while_=lambda: going))
        try:
            one = run.join()
            took["1"] = await run.until(lambda: shares(one) == [6], bound, "the first has all")
            two = run.join()
            took["1+1"] = await run.until(lambda: shares(one, two) == [3, 3], bound, "two share")
            three = run.join()
            took["2+1"] = await run.until(lambda: shares(one, two, three) == [2, 2, 2], bound, "three share")
            epochs = [dict(source.assignment) for source in (one, two, three)]
            quiet = asyncio.get_running_loop().time() + 2 * group["session_timeout_ms"] / 1000
            await run.until(lambda: asyncio.get_running_loop().time() > quiet, bound, "time passes")
            # Nobody came or went, so nothing may have moved: each rebalance stops the whole group.
            assert [dict(source.assignment) for source in (one, two, three)] == epochs
            assert not (await run.leave(two)).unacked
            took["3-1"] = await run.until(lambda: shares(one, three) == [3, 3], bound, "two share again")
            assert not (await run.leave(one)).unacked
            took["2-1"] = await run.until(lambda: shares(three) == [6], bound, "the last has all")
        finally:
            going = False
            await publishing
        await run.until(run.all_committed, 30, "all is committed")
        await run.leave(three)
        total = run.report().total
    say(", ".join(f"{change} members {seconds:.1f} s" for change, seconds in took.items()) + f"; {total.landed} rows")
    assert (total.lost, total.phantom, total.duplicate) == (0, 0, 0)
    assert total.landed == total.expected > 1000
