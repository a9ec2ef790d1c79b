"""The alarm `no-rows`: it rings for a topic that gives no row, whatever keeps it from that, and for no other."""

import asyncio
import json
from importlib import resources

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from lmstream import Engine, Settings
from lmstream.delivery import Pipeline
from lmstream.interfaces import Limits
from lmstream.model import Record, TopicPartition
from lmstream.observability import prometheus
from lmstream.observability.endpoints import status
from lmstream.observability.readings import Readings
from lmstream.runtime import Runtime, RuntimePolicy
from lmstream.testing import ScriptedLetters, ScriptedSink, ScriptedSource, now, run
from support import otlp
from support.promql import value

RULES = yaml.safe_load(resources.files("lmstream.observability").joinpath("rules.yaml").read_text("utf-8"))
(ALARM,) = [rule["expr"] for rule in RULES["groups"][0]["rules"] if rule["alert"] == "LmstreamNoRows"]
T = "1715263558360000000"
LIMITS = Limits(pack_bytes=1000 * 1024, pack_rows=500, request_packs=4, request_bytes=4 << 20)


def bundle(*points):
    return json.dumps(otlp.bundle(otlp.metric(*points))).encode()


GOOD = bundle({"timeUnixNano": T, "asDouble": 1.5})
ROWLESS = {
    "no recorded value": bundle({"timeUnixNano": T, "flags": 1}),
    "NaN": bundle({"timeUnixNano": T, "asDouble": "NaN"}),
    "empty": b'{"resourceMetrics": []}',
    "metric without points": bundle(),
    "every point rejected": bundle({"timeUnixNano": T, "asInt": "1", "asDouble": 1}),
    "other names": b'{"resourceMetrics":[{"instrumentationLibraryMetrics":[{"metrics":[{"name":"m"}]}]}]}',
    "no bundle": b"junk",
}


class Log(ScriptedSource):
    """A scripted source that knows its partitions from the start, as that of Kafka does."""

    def standings(self):
        return dict.fromkeys(sorted(self.partitions | {TopicPartition("quiet", 0)}), STANDING)


class _Standing:
    next = end = None


STANDING = _Standing()


def scrape(readings):
    text = prometheus.render(readings).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ringing(**topics):
    """Topics for which the alarm rings after their values came; and what /statusz says then."""
    log = [
        Record(topic=topic, partition=0, offset=n, value=each)
        for topic, values in topics.items()
        for n, each in enumerate(values)
    ]

    async def scenario():
        source, sink = Log(log), ScriptedSink(limits=LIMITS)
        pipeline = Pipeline(
            Engine(Settings(org_id="acme")), sink, ScriptedLetters(), clock=now, sleep=asyncio.sleep, random=lambda: 0.5
        )
        runtime = Runtime(source, pipeline, clock=now, policy=RuntimePolicy())
        readings = Readings(runtime)
        before = scrape(readings)
        await runtime.run()
        assert pipeline.balanced
        found = value(ALARM, before, scrape(readings))
        return {dict(labels)["topic"] for labels in found}, status(readings)["counts"]

    return run(scenario())


@pytest.mark.parametrize("kind", ROWLESS)
def test_it_rings_for_a_topic_of_records_that_give_no_row_and_not_for_the_one_beside_it(kind):
    topics, counts = ringing(bad=[ROWLESS[kind]] * 20, good=[GOOD] * 20)
    assert topics == {"bad"}
    assert counts["records"] == 40
    assert counts["understood"] + counts["empty"] + counts["undecodable"] == 40


def test_it_rings_for_a_mixture_of_all_kinds_and_is_quiet_with_one_row_among_them():
    mixture = list(ROWLESS.values())
    assert ringing(t=mixture)[0] == {"t"}
    assert ringing(t=[*mixture, GOOD])[0] == set()


def test_silence_and_tombstones_are_not_its_business():
    assert ringing()[0] == set()
    topics, counts = ringing(t=[None] * 20)
    assert (topics, counts["tombstones"]) == (set(), 20)


def test_a_row_among_rejected_points_of_the_same_record_is_a_row():
    both = bundle({"timeUnixNano": T, "asDouble": 1.5}, {"timeUnixNano": T, "asInt": "1", "asDouble": 1})
    assert ringing(t=[both] * 5)[0] == set()
