"""`verify` of topics that go on: what is not read yet, in flight, buffered, older than the log, of another topic, or lost."""

import asyncio
import json
import time
from datetime import UTC, datetime
from itertools import islice

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition

from lmstream import Engine, Record
from lmstream import Settings as EngineSettings
from lmstream.cli import main, settling
from lmstream.kafka.settings import Settings
from lmstream.lab import KafkaLab
from lmstream.lab.generator import Generator
from lmstream.verification import Topics, verify
from lmstream.verification.topics import Judged

ENGINE = Engine(EngineSettings(org_id="acme"))


class Scene:
    """A topic of one partition with ten bundles, a folder of rows, and a group."""

    def __init__(self, lab, folder):
        self.lab, self.landed, self.records = lab, folder / "landed", []
        self.landed.mkdir()

    async def publish(self, count, topic="lm"):
        producer = AIOKafkaProducer(bootstrap_servers=self.lab.bootstrap)
        await producer.start()
        made = []
        for bundle in islice(Generator(instances=2, seed=len(self.records) + 1).bundles(), count):
            placed = await producer.send_and_wait(topic, bundle.payload, partition=0)
            made.append(
                Record(topic=topic, partition=0, offset=placed.offset, timestamp=placed.timestamp, value=bundle.payload)
            )
        await producer.stop()
        self.records += made
        return made

    async def commit(self, offset, topic="lm"):
        consumer = AIOKafkaConsumer(bootstrap_servers=self.lab.bootstrap, group_id="g", enable_auto_commit=False)
        await consumer.start()
        tp = KafkaPartition(topic, 0)
        consumer.assign([tp])
        await consumer.commit({tp: offset})
        await consumer.stop()

    def land(self, records, name="a"):
        count = 0
        for record in records:
            for group in ENGINE.fan_out(record).groups:
                (self.landed / group.path).mkdir(parents=True, exist_ok=True)
                (self.landed / group.path / f"{record.topic}-{record.offset}-{name}").write_bytes(group.data)
                count += group.rows
        return count

    async def verify(self, *flags, topics=("lm",)):
        command = ["verify", "--bootstrap", self.lab.bootstrap, "--group", "g", "--org", "acme", "--json"]
        command += [part for each in topics for part in ("--topic", each)]
        return await asyncio.to_thread(main, [*command, "--landed", str(self.landed), *flags])


@pytest.fixture
async def scene(tmp_path):
    async with KafkaLab() as lab:
        await lab.create_topic("lm", 1)
        made = Scene(lab, tmp_path)
        await made.publish(10)
        yield made


def total(capsys):
    return json.loads(capsys.readouterr().out)["total"]


async def test_what_is_not_read_yet_and_what_is_in_flight_is_not_lost(scene, capsys):
    await scene.commit(4)
    landed = scene.land(scene.records[:4])
    early = scene.land(scene.records[6:7])  # read out of turn, and not committed
    assert await scene.verify() == 0
    found = total(capsys)
    assert (found["landed"], found["lost"], found["phantom"], found["bundles"]) == (landed, 0, 0, 4)
    assert found["in_flight"] >= early > 0
    assert found["not_read"] > 0


async def test_a_committed_row_that_is_missing_is_lost(scene, capsys):
    await scene.commit(4)
    scene.land(scene.records[:3])
    assert await scene.verify() == 3
    assert total(capsys)["lost"] > 0


async def test_a_row_in_flight_with_other_bytes_is_changed_all_the_same(scene, capsys):
    await scene.commit(1)
    scene.land(scene.records[:2])
    path = next(scene.landed.rglob("lm-1-a"))
    path.write_bytes(path.read_bytes().replace(b"acme", b"evil"))
    assert await scene.verify() == 3
    assert total(capsys)["changed"] > 0


async def test_rows_that_land_while_verify_reads_are_in_flight(scene):
    await scene.commit(10)
    rows = scene.land(scene.records)
    source = Settings(bootstrap=scene.lab.bootstrap, topics=("lm",), group="g")
    topics = await asyncio.to_thread(Topics, source, EngineSettings(org_id="acme"))
    loop = asyncio.get_running_loop()

    def watch(objects):
        # The topic was read to its end; what comes now is read by the run and lands before the listing.
        made = asyncio.run_coroutine_threadsafe(scene.publish(3), loop).result(30)
        watch.more = scene.land(made)
        return objects

    report = await asyncio.to_thread(verify, topics, scene.landed, watch=watch)
    assert report.ok
    assert (report.total.landed, report.total.in_flight, report.total.phantom) == (rows, watch.more, 0)


async def test_rows_older_than_the_log_are_not_judged_and_newer_strangers_are(scene, capsys):
    await scene.commit(10)
    scene.land(scene.records)
    hour = 3_600_000
    old = Record(
        topic="lm", partition=0, offset=77, timestamp=5, value=bundle_at(scene.records[0].timestamp - 9 * hour)
    )
    rows = scene.land([old], "old")
    assert await scene.verify() == 0
    assert total(capsys)["outside"] == rows > 0
    new = Record(
        topic="lm", partition=0, offset=78, timestamp=5, value=bundle_at(scene.records[0].timestamp + 9 * hour)
    )
    rows = scene.land([new], "new")
    assert await scene.verify() == 3
    assert total(capsys)["phantom"] == rows > 0


def bundle_at(ms):
    return next(iter(Generator(instances=2, start_ms=ms).bundles())).payload


async def test_all_topics_that_land_in_one_place_are_judged_together(scene, capsys):
    await scene.lab.create_topic("other", 1)
    others = await scene.publish(3, "other")
    await scene.commit(10)
    await scene.commit(3, "other")
    rows = scene.land(scene.records)
    assert await scene.verify(topics=("lm", "other")) == 0
    assert total(capsys)["landed"] == rows
    for path in scene.landed.rglob(f"other-{others[0].offset}-a"):
        path.unlink()
    assert await scene.verify(topics=("lm", "other")) == 3
    assert total(capsys)["lost"] > 0


async def test_a_group_that_has_committed_nothing_says_so(scene, capsys):
    assert await scene.verify() == 2
    assert "the group g has committed nothing in lm: name the run's own group" in capsys.readouterr().err
    scene.land(scene.records[:2])
    assert await scene.verify("--to", "0=2") == 0
    assert await scene.verify("--to", "0=3") == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--from", "0=5", "--to", "0=2"], "no offset is in this range"),
        (["--from", "0=5", "--to", "0=5"], "no offset is in this range"),
        (["--from", "7=0"], "topic lm has no partition 7"),
        (["--from", "x/0=0"], "expected PARTITION=OFFSET, as in 0=1200"),
        (["--since", "yesterday"], "--since yesterday: expected 2024-05-09T14:00Z"),
        (["--settle", "-1"], "'-1' is not a duration"),
        (["--html", "/nonexistent/page.html"], "--html /nonexistent/page.html: No such file"),
    ],
)
async def test_ranges_and_flags_that_do_not_fit_are_said_before_anything_is_read(scene, capsys, flags, said):
    await scene.commit(10)
    assert await scene.verify(*flags) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "records read" not in err


async def test_since_a_time(scene, capsys):
    while time.time() * 1000 <= scene.records[-1].timestamp + 1:  # noqa: ASYNC110 - until the clock has moved on
        await asyncio.sleep(0.001)
    first, _ = await scene.publish(2)
    await scene.commit(12)
    scene.land(scene.records[10:])
    since = datetime.fromtimestamp(first.timestamp / 1000, UTC).isoformat()
    assert await scene.verify("--since", since) == 0
    assert total(capsys)["bundles"] == 2
    assert await scene.verify() == 3


async def test_a_missing_row_is_buffered_until_the_place_was_listed_again(scene, capsys, monkeypatch):
    await scene.commit(10)
    rows = scene.land(scene.records[:8])
    assert await scene.verify("--settle", "60", "--no-wait") == 5
    found = json.loads(capsys.readouterr().out)
    assert not found["settled"]
    assert found["total"]["lost"] == 0
    assert found["total"]["buffered"] > 0
    assert found["total"]["landed"] == rows
    waited = []

    def deliver(seconds):
        waited.append(seconds)
        scene.land(scene.records[8:])

    monkeypatch.setattr("lmstream.cli.verify.wait", deliver)
    assert await scene.verify("--settle", "60") == 0
    found = total(capsys)
    assert found["duplicate"] == found["lost"] == 0
    (seconds,) = waited
    assert 0 < seconds <= 60
    next(scene.landed.rglob("lm-9-a")).unlink()
    monkeypatch.setattr("lmstream.cli.verify.wait", waited.append)
    assert await scene.verify("--settle", "60") == 3
    assert total(capsys)["lost"] > 0
    assert len(waited) == 2


def test_the_interval_is_that_of_the_stream(monkeypatch):
    class Sink:
        async def describe(self):
            return {
                "Destinations": [{"ExtendedS3DestinationDescription": {"BufferingHints": {"IntervalInSeconds": 120}}}]
            }

        async def close(self):
            pass

    from lmstream.config import load

    firehose = load(env={}, overrides={"sink.type": "firehose", "sink.stream": "rows", "sink.region": "us-east-1"})
    monkeypatch.setattr(settling, "build_sink", lambda _: Sink())
    assert settling.interval(firehose, "s3://b") == 180
    assert settling.interval(firehose, "folder") == 0
    assert settling.interval(load(env={}), "s3://b") == 960
    assert settling.interval(load(env={}, overrides={"sink.type": "local", "sink.root": "x"}), "s3://b") == 0


def test_judged_names_its_records():
    record = Record(topic="t", partition=1, offset=5, value=b"")
    settings = EngineSettings()
    assert Judged(settings=settings, topic="t").has(record)
    assert not Judged(settings=settings, topic="u").has(record)
    assert not Judged(settings=settings, topic="t", partition=2).has(record)
    assert not Judged(settings=settings, topic="t", partition=1, stop=5).has(record)
    assert Judged(settings=settings, topic="t", partition=1, start=5, stop=6).has(record)
