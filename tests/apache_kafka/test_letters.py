"""Dead letters in a topic of a real cluster: its own limit is asked for, and what it says it takes it takes."""

import os

import pytest
from msgspec.structs import replace

from lmstream.config import build_letters, check_letters, load
from lmstream.dead_letters.form import decode, encode
from lmstream.errors import ConfigError, SinkError
from lmstream.model import DeadLetter
from lmstream.sources import kafka
from support.kafka_scenarios import read_range, settings

LIMIT = 300_000
TAKES = LIMIT - 512  # beside the letter: what a batch of one record adds


def config(cluster, topic, **more):
    given = {"type": "letters_kafka", "topic": topic, "bootstrap": cluster.bootstrap, "compression": "none"}
    if (pem := cluster.certificates) is not None:
        given |= {"security": "ssl", "ca": pem.ca, "cert": pem.client_cert, "key": pem.client_key}
    overrides = {f"dead_letters.{name}": str(value) for name, value in given.items()}
    return load(env={}, overrides=overrides | {f"engine.limits.{name}": value for name, value in more.items()})


def letter_of(size):
    """A letter of this many bytes, which no compression makes smaller."""
    place = {"topic": "lm", "partition": 1, "offset": size, "timestamp": 5, "reason": "decode.json"}
    made = DeadLetter(**place, value=os.urandom(size // 2), detail="x")
    made = replace(made, detail="x" * (size - len(encode(made)) + 1))
    assert len(encode(made)) == size
    return made


async def test_a_topic_that_takes_too_little_is_refused_and_the_largest_letter_it_takes_is_kept(cluster, topic):
    await cluster.create_topic(topic, max_message_bytes=LIMIT)
    with pytest.raises(ConfigError, match=f"dead letters accepts letters of {TAKES:,} bytes at most"):
        await check_letters(config(cluster, topic))
    fits = config(cluster, topic, record_bytes=150_000, points=100)
    await check_letters(fits)
    sink = build_letters(fits)
    try:
        await sink.check()
        assert sink.largest == TAKES
        letters = [letter_of(TAKES), letter_of(20_000), letter_of(TAKES)]
        await sink.write(letters)
        with pytest.raises(SinkError, match="MessageSizeTooLarge"):
            await sink.write([letter_of(LIMIT + 1)])
        await sink.write(letters[1:2])  # it goes on after that
    finally:
        await sink.close()
    where = settings(cluster, kafka, topic)
    kept = [(r.key, decode(r.value)) async for r in read_range(where, topic, {0: (None, None)})]
    assert kept == [(b"lm/1/%d" % each.offset, each) for each in [*letters, letters[1]]]


async def test_a_topic_that_is_not_there_is_named_and_not_made(cluster, topic):
    for _ in range(2):
        with pytest.raises(SinkError, match="the topic does not exist"):
            await check_letters(config(cluster, topic, record_bytes=150_000, points=100))
