"""What is asked beside a run: the retention soon and again, partitions only while something is not known of them."""

import asyncio
import time

import pytest

from lmstream.behind import Look, Retention
from lmstream.errors import SourceError
from lmstream.hosts.container import watching
from lmstream.interfaces import Standing
from lmstream.model import TopicPartition
from lmstream.observability.readings import Readings
from lmstream.runtime import Runtime
from lmstream.testing import ScriptedSink, ScriptedSource
from support.doubles import make
from support.wait import until

TP = TopicPartition("t", 0)


class Asked(ScriptedSource):
    """One whose brokers answer when they like."""

    standing = Standing(5, 5)

    def __init__(self):
        super().__init__([])
        self.looks, self.asked = [], 0

    def standings(self):
        return {TP: self.standing}

    async def look(self, start, /):
        self.looks.append(dict(start))
        return {TP: Look(0, 9, 5, (5, 1000))}

    async def retentions(self):
        self.asked += 1
        if self.asked < 3:
            raise SourceError("source.unreachable", "the brokers are away")
        return {"t": Retention(60.0)}


@pytest.fixture
def quick(monkeypatch):
    for name in ("LOOK", "ASK"):
        monkeypatch.setattr(watching, name, 0.01)


@pytest.mark.usefixtures("quick")
async def test_brokers_are_asked_again_when_they_are_away_and_for_partitions_only_when_something_is_not_known():
    source = Asked()
    runtime = Runtime(source, make(ScriptedSink()), clock=time.monotonic)
    runtime.state = "running"
    readings = Readings(runtime)
    async with watching.watching(readings):
        await until(lambda: readings.retentions, 10, "the retention is known")
        await asyncio.sleep(0.1)
        assert source.asked == 3, "and not asked for again at once"
        assert source.looks == [], "all is known: it is settled to its end"
        source.standing = Standing(5, 9)  # four came, and this process has none of them
        await until(lambda: source.looks, 10, "the brokers are asked")
        assert source.looks[0] == {TP: 5}
        await until(lambda: readings.partitions()[0].seconds, 10, "the oldest is known")
        (found,) = readings.partitions()
        assert (found.records, found.oldest, found.retention) == (4, 1.0, 60.0)
        many = len(source.looks)
        await until(lambda: len(source.looks) > many + 2, 10, "and asked again while they wait: more may come, or go")
        source.standing = Standing(9, 9)
        await until(lambda: not readings.partitions()[0].records, 10, "they are settled")
        await asyncio.sleep(0.1)
        many = len(source.looks)
        await asyncio.sleep(0.1)
        assert len(source.looks) == many
