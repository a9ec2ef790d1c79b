"""Names and patterns of topics, without a broker."""

import asyncio
import logging
import re

import pytest

from lmstream.abilities import Health
from lmstream.errors import ConfigError, SourceError
from lmstream.kafka import topics
from lmstream.kafka.settings import Settings
from lmstream.kafka.topics import TopicWatch, Wanted

THERE = ["lm.metrics", "lm.metrics.eu", "lm.metricsX", "lm", "other", "__consumer_offsets", "__lm"]


@pytest.mark.parametrize(
    ("topics", "found", "missing"),
    [
        (["lm.metrics"], {"lm.metrics"}, ()),
        (["lm.metrics", "none"], {"lm.metrics"}, ("none",)),
        (["^lm[.]metrics.*"], {"lm.metrics", "lm.metrics.eu", "lm.metricsX"}, ()),
        (["^lm[.]metrics"], {"lm.metrics"}, ()),  # the whole name
        (["^lm|other"], {"lm", "other"}, ()),
        (["^nothing.*"], set(), ("^nothing.*",)),
        (["^.*"], {"lm.metrics", "lm.metrics.eu", "lm.metricsX", "lm", "other"}, ()),  # never Kafka's own
        (["__lm"], {"__lm"}, ()),  # but by its name
        (["other", "^lm"], {"other", "lm"}, ()),
    ],
)
def test_what_is_read_of_what_there_is(topics, found, missing):
    wanted = Wanted(topics)
    assert wanted.of(THERE) == found
    assert wanted.missing(THERE) == missing


async def test_a_start_waits_for_patterns_and_for_names_only_when_told_so(monkeypatch):
    monkeypatch.setattr(topics, "_FRESH", 0.0)

    async def there():
        return ["x"]

    async def started(*wanted, **more):
        return await topics.present(there, Settings(bootstrap="b:9092", topics=wanted, **more))

    with pytest.raises(SourceError, match="topic a is not there, or not visible to this client, at b:9092") as caught:
        await started("a", "^b.*")
    assert caught.value.reason == "source.topic"
    assert await started("a", "^b.*", on_topic_missing="wait") == ["x"]
    assert await started("x", "^b.*") == ["x"]


@pytest.mark.parametrize("topics", [[], ["^("], ["a", "^[z-a]"]])
def test_no_topic_and_no_expression_are_refused(topics):
    with pytest.raises(ConfigError, match=re.escape(topics[-1]) if topics else "no topic is named"):
        Wanted(topics)


class Source:
    """What a watch sees of the supervisor."""

    def __init__(self, *topics):
        self.settings = Settings(bootstrap="b:1", topics=topics)
        self.health = Health()
        self.gone = set()

    def topics_gone(self, topics):
        self.gone |= set(topics)


@pytest.mark.parametrize("keep", [True, False])
async def test_a_topic_that_is_away_for_a_moment_is_not_missed(monkeypatch, caplog, keep):
    """A broker that has just started may answer before it knows its topics: nobody is woken, nothing is given up."""
    monkeypatch.setattr(topics, "_SURE", 0.2)
    source, used = Source("a", "b"), []

    async def use(topics):
        used.append(topics)

    watch = TopicWatch(source, None, use, keep=keep)
    await watch._take(["a", "b"])
    await watch._take(["a"])
    assert (source.health.missing, used) == ((), [{"a", "b"}])
    assert source.gone == {"b"}  # its offsets may begin anew all the same
    await watch._take(["a", "b"])
    await asyncio.sleep(0.25)
    await watch._take(["a"])
    assert source.health.missing == ()
    await asyncio.sleep(0.25)
    caplog.set_level(logging.WARNING)
    await watch._take(["a"])
    assert source.health.missing == ("b",)
    assert [each.levelname for each in caplog.records] == ["ERROR"]
    assert used == [{"a", "b"}] if keep else [{"a", "b"}, {"a"}]
    await watch._take(["a", "b"])
    assert source.health.missing == ()
    assert used[-1] == {"a", "b"}
