"""A record of a topic that kills whoever transforms it: three processes die, the fourth passes it over, as members."""

import signal

import pytest
from aiokafka import AIOKafkaProducer

from lmstream.dead_letters.form import decode
from lmstream.engine import bundle_id
from lmstream.verification import Expected
from storage.test_crash_journal import CODEC
from support import cluster as members
from support.checking import TOPIC
from support.cluster import Cluster

DEADLY = b'{"KILLS":1,"resourceMetrics":[]}'


@pytest.mark.slow
@pytest.mark.parametrize("source", ["kafka", "confluent"])
async def test_three_deaths_at_one_record_and_the_fourth_member_passes_it_over(tmp_path, source, monkeypatch):
    (tmp_path / "deadly").mkdir()
    (tmp_path / "deadly" / "codec.py").write_text(CODEC.replace("\n    ", "\n"))
    monkeypatch.setitem(members.ENV, "PYTHONPATH", str(tmp_path))
    async with Cluster(tmp_path, partitions=2) as cluster:
        cluster.watch()
        await cluster.publish(30)
        async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap) as producer:
            sent = await producer.send_and_wait(TOPIC, DEADLY, partition=0)
        cluster.expected.append(
            Expected(
                topic=TOPIC,
                partition=0,
                offset=sent.offset,
                timestamp=sent.timestamp,
                bundle_id=bundle_id("", TOPIC, 0, sent.offset, sent.timestamp),
                points=0,
                poison="record.kills",
            )
        )
        await cluster.publish(30, seed=2)
        letter = cluster.dead / TOPIC / "0" / f"{sent.offset}.json"
        chosen = ("--set", f"source.type={source}", "--set", "engine.format=deadly.codec")
        for _ in range(3):
            member = await cluster.join(*chosen)
            assert await member.process.wait() == -signal.SIGKILL, member.said()
            assert not letter.exists()
        await cluster.join(*chosen)
        report = await cluster.finish()
        print(f"{report.total.duplicate} duplicates of {report.total.expected} rows")
        told = decode(letter.read_bytes())
        assert (told.reason, told.code, told.value) == ("record.kills", "LMS-1014", None)
        assert "3 processes died" in told.detail
