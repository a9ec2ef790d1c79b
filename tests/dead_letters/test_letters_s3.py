"""Dead letters in S3: durable at one key a record, never over another record, and an outage only makes them wait."""

import asyncio
import os

import pytest
from botocore.exceptions import ClientError

from lmstream.config import build_letters, check_letters, load
from lmstream.dead_letters.letters_s3 import Letters, Settings
from lmstream.delivery import DeliveryPolicy, Pipeline
from lmstream.errors import ConfigError, SinkError
from lmstream.interfaces import Batch
from lmstream.model import DeadLetter
from lmstream.testing import ScriptedSink
from support.buckets import S3
from support.doubles import ToyEngine, bundle, lines_of, record
from support.wait import until

NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def letter(offset=7, value=b"\x00bundle", topic="lm.metrics", **more):
    return DeadLetter(topic=topic, partition=3, offset=offset, timestamp=5, value=value, reason="decode.json", **more)


@pytest.fixture
def store(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "lab")
    made = S3()
    yield made
    made.close()


@pytest.fixture
async def sink(store):
    made = Letters(Settings(bucket="dlq", prefix="/a/b/", endpoint_url=store.url, region="us-east-1"))
    await made.check()
    yield made
    await made.close()
    await made.close()


async def test_the_same_letter_again_changes_nothing_also_when_it_is_written_concurrently(store, sink):
    letters = [letter(offset=n, value=os.urandom(100), headers=(("h", b"\xff"),)) for n in range(20)]
    for _ in range(2):
        await asyncio.gather(*(sink.write(letters) for _ in range(3)))
    kept = store.letters()
    assert kept.keys() == {f"a/b/lm.metrics/3/{n}.json" for n in range(20)}
    assert sorted(kept.values(), key=lambda each: each.offset) == letters


async def test_another_record_at_the_same_coordinates_never_replaces_the_first(store, sink):
    for _ in range(2):
        await sink.write([letter()])
        await sink.write([letter(value=b"other")])
        await sink.write([letter(value=None)])
    kept = store.letters()
    assert len(kept) == 3
    assert kept["a/b/lm.metrics/3/7.json"] == letter()
    assert {each.value for each in kept.values()} == {b"\x00bundle", b"other", None}


async def test_a_store_without_conditions_keeps_the_same_rule(store, sink):
    bucket, put = sink._bucket, sink._bucket.put

    async def plain(key, data, **more):
        if more:
            error = Exception("A header you provided implies functionality that is not implemented")
            error.response = {"Error": {"Code": "NotImplemented"}}
            raise error
        await put(key, data)

    bucket.put = plain
    for _ in range(2):
        await sink.write([letter(), letter(offset=8)])
        await sink.write([letter(value=b"other")])
    kept = store.letters()
    assert len(kept) == 3
    assert kept["a/b/lm.metrics/3/7.json"] == letter()


async def test_hostile_topics_stay_below_the_prefix(store, sink):
    topics = ["../../evil", "a/b", "", ".", "..", "x" * 500, "e\N{GRINNING FACE}", "a\nb", "a\0b"]
    await sink.write([letter(topic=topic) for topic in topics])
    kept = store.letters()
    assert {each.topic for each in kept.values()} == set(topics)
    for key in kept:
        assert key.startswith("a/b/")
        assert len(key.split("/")) == 5
        assert not {"", ".", ".."} & set(key.split("/"))


async def test_an_answer_that_is_not_the_services_is_no_promise(store, sink):
    threads = sink._bucket._client
    client = await threads.made()

    class Proxy:
        def __init__(self, answer):
            self.answer = answer

        def put_object(self, **_request):
            return self.answer

    for answer in ({"ResponseMetadata": {"HTTPStatusCode": 200}}, {"ETag": ""}, {"ETag": '""'}, None, {"ETag": 5}):
        threads._client = Proxy(answer)
        with pytest.raises(SinkError, match="without an ETag") as caught:
            await sink.write([letter()])
        assert caught.value.reason == "dead_letters.unavailable"
    threads._client = client
    assert not store.letters()


async def test_what_is_wrong_is_said_before_a_start(store):
    for bucket, url, said in [
        ("none", store.url, "s3://none/.*NoSuchBucket"),
        ("dlq", "http://127.0.0.1:1", "Connection"),
    ]:
        sink = Letters(Settings(bucket=bucket, endpoint_url=url, region="us-east-1"))
        with pytest.raises(SinkError, match=said):
            await sink.check()
        await sink.close()
    chosen = {"dead_letters.type": "letters_s3", "dead_letters.bucket": "dlq", "dead_letters.endpoint_url": store.url}
    config = load(env={}, overrides={**chosen, "dead_letters.region": "us-east-1"})
    await check_letters(config)
    assert isinstance(build_letters(config), Letters)
    small = type("Small", (Letters,), {"largest": 1_000})
    config.dead_letters.module.make, kept = small, config.dead_letters.module.make
    try:
        with pytest.raises(ConfigError, match=r"1,000 bytes at most.*14,450,348.*record_bytes 8,388,608 in base64"):
            build_letters(config)
    finally:
        config.dead_letters.module.make = kept


async def test_an_outage_stalls_its_partition_while_the_others_go_on_and_drops_nothing(store):
    policy = DeliveryPolicy(timeout=2.0, backoff_base=0.01, backoff_max=0.05)
    letters = Letters(Settings(bucket="dlq", prefix="", endpoint_url=store.url, region="us-east-1", read_timeout=1))
    clock = asyncio.get_running_loop().time
    settled, sink = [], ScriptedSink()
    pipeline = Pipeline(
        ToyEngine(),
        sink,
        letters,
        clock=clock,
        sleep=asyncio.sleep,
        random=lambda: 0.5,
        policy=policy,
    )
    store.stop()
    bad = [record(n, b"junk") for n in range(5)]
    good = [record(n, bundle(2), partition=1) for n in range(40)]
    pipeline.submit(Batch([*bad, *good]), lambda tp, _epoch, offset, _status: settled.append((tp.partition, offset)))
    await until(
        lambda: "dead_letters" in getattr(pipeline.letters.trouble, "message", "") and len(settled) == len(good)
    )
    assert {partition for partition, _ in settled} == {1}
    assert (pipeline.snapshot().oldest_letter, pipeline.snapshot().letters_waiting) == ("t/0/0", 5)
    assert pipeline.balanced
    store.start()
    async with asyncio.timeout(20):
        await pipeline.drain()
    assert pipeline.letters.trouble is None
    assert {partition for partition, _ in settled} == {0, 1}
    assert {each.record().coordinates for each in (store.letters()).values()} == {f"t/0/{n}" for n in range(5)}
    assert sink.lines.keys() == {line for each in good for line in lines_of(each)}
    assert pipeline.balanced
    assert pipeline.snapshot().in_flight == 0
    await pipeline.close()


class Skewed:
    """A client whose service judges the clock, as S3 does for a request of more than 15 minutes ago."""

    def put_object(self, **_):
        error = {"Code": "RequestTimeTooSkewed", "Message": "The difference between the request time and the current"}
        raise ClientError({"Error": error}, "PutObject")


async def test_a_wrong_clock_is_told_as_that_and_not_as_a_store_that_is_away():
    sink = Letters(Settings(bucket="dlq"))
    sink._bucket._client._client = Skewed()
    with pytest.raises(SinkError, match=r"LMS-4011.*RequestTimeTooSkewed.*chronyc") as told:
        await sink.write([letter()])
    assert told.value.reason == "sink.clock"
