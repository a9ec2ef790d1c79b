"""Every source in the folder passes the suite that is given to others."""

import pkgutil

from aiokafka import AIOKafkaProducer

import lmstream.sources
from lmstream.lab import KafkaLab
from lmstream.sources import confluent, files, kafka
from lmstream.testing import SourceConformance

MODULES = {m.name for m in pkgutil.iter_modules(lmstream.sources.__path__) if not m.name.startswith("_")}
QUICK = {"session_timeout_ms": 1000, "heartbeat_interval_ms": 100, "rebalance_timeout_ms": 1000}


class TestFiles(SourceConformance):
    commits = False

    def put(self, values):
        (self.folder / "in.jsonl").write_bytes(b"\n".join(values))

    def make(self):
        return files.make(files.Settings(paths=(str(self.folder / "in.jsonl"),), topic="lm"))


class TestKafka(SourceConformance):
    finite = False
    grouped = True
    patience = 20.0
    test_schedules_lose_nothing = None  # a group takes seconds to change hands: tests/faults kills processes instead
    module = kafka

    async def up(self):
        self.lab = await KafkaLab().__aenter__()
        await self.lab.create_topic("lm")

    async def down(self):
        await self.lab.close()

    async def put(self, values):
        async with AIOKafkaProducer(bootstrap_servers=self.lab.bootstrap) as producer:
            for value in values:
                await producer.send_and_wait("lm", value, partition=0)

    def make(self):
        return self.module.make(
            self.module.Settings(bootstrap=self.lab.bootstrap, topics=("lm",), group="lmstream", **QUICK)
        )


class TestConfluent(TestKafka):
    module = confluent


def test_every_source_in_the_folder_is_tested_here():
    assert {"files", "kafka", "confluent"} == MODULES
