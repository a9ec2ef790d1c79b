"""Every source in the folder keeps the promise of the seam, on the same records where it can."""

import asyncio
import contextlib
import importlib
import pkgutil

import pytest

import lmstream.sources
from lmstream.errors import SourceError
from lmstream.lab import KafkaLab
from lmstream.model import TopicPartition

MODULES = sorted(m.name for m in pkgutil.iter_modules(lmstream.sources.__path__) if not m.name.startswith("_"))
VALUES = [b'{"n":%d}' % n for n in range(10)]


class FilesHost:
    def __init__(self, module, folder):
        self.module, self.folder = module, folder

    async def __aenter__(self):
        (self.folder / "in.jsonl").write_bytes(b"\n".join(VALUES))
        self.tp = TopicPartition("lm", 0)
        return self.module.make(self.module.Settings(paths=(str(self.folder),), topic="lm"))

    async def __aexit__(self, *_):
        pass


class KafkaHost(FilesHost):
    async def __aenter__(self):
        from aiokafka import AIOKafkaProducer

        self.lab = await KafkaLab().__aenter__()
        await self.lab.create_topic("lm")
        async with AIOKafkaProducer(bootstrap_servers=self.lab.bootstrap) as producer:
            for value in VALUES:
                await producer.send_and_wait("lm", value, partition=0)
        quick = {"session_timeout_ms": 1000, "heartbeat_interval_ms": 100, "rebalance_timeout_ms": 1000}
        return self.module.make(
            self.module.Settings(bootstrap=self.lab.bootstrap, topics=("lm",), group="lmstream", **quick)
        )

    async def __aexit__(self, *_):
        await self.lab.close()


HOSTS = {"files": FilesHost, "kafka": KafkaHost, "confluent": KafkaHost}


def test_every_source_in_the_folder_is_tested_here():
    assert set(MODULES) == HOSTS.keys()


@pytest.mark.parametrize("name", MODULES)
async def test_the_promise_of_a_source(name, tmp_path):
    async with HOSTS[name](importlib.import_module(f"lmstream.sources.{name}"), tmp_path) as source:
        assert source.on_revoke is None
        records = []
        async with asyncio.timeout(10):
            while len(records) < len(VALUES):
                assert not (await source.poll(0)).records
                batch = await source.poll(30)
                assert sum(len(r.value) for r in batch.records) <= 30
                assert all(r.tp in batch.epochs for r in batch.records) or not batch.epochs
                records += batch.records
        assert [r.value for r in records] == VALUES
        assert [r.offset for r in records] == list(range(len(VALUES)))
        tp = TopicPartition("lm", 0)
        await source.commit({tp: 5})
        await source.commit({tp: 10, TopicPartition("never", 1): 3})
        await source.commit({})
        await source.close()
        await source.close()
        with contextlib.suppress(SourceError):
            assert (await source.poll(1)).end
