"""Metrics and spans at a collector: the same as /metrics of the same run, and nothing that it does reaches the run."""

import asyncio
import contextlib
import gzip
import os
import socket
import subprocess
import sys
import time
from itertools import islice

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lmstream import __version__
from lmstream.cli import main
from lmstream.config import load
from lmstream.config.questions import live
from lmstream.errors import ConfigError, SourceError
from lmstream.hosts.container.service import serve
from lmstream.lab import KafkaLab
from lmstream.lab.generator import Generator
from lmstream.model import Record, Status, TopicPartition
from lmstream.observability import prometheus, telemetry
from lmstream.observability.batch_spans import LINKS, LISTED, BatchSpans
from lmstream.observability.collector import QUIET, Collector
from lmstream.observability.metrics_catalogue import BY_NAME, SERVED
from lmstream.observability.otlp_metrics import UNITS
from support.kafka_scenarios import produce
from support.otlp_receiver import attributes, receiving
from support.wait import until

UNLIKE = {"lmstream_up_seconds", "lmstream_event_loop_stall_seconds"}
"""What is another number a moment later."""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def receiver():
    with receiving() as found:
        yield found


@pytest.fixture
def config(tmp_path):
    """Makes the configuration of a run from a folder with three bundles and a bad one to a landing folder."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    for number, bundle in enumerate(islice(Generator(instances=2).bundles(), 3)):
        (folder / f"{number}.json").write_bytes(bundle.payload)
    (folder / "3.json").write_bytes(b'{"resourceMetrics": 5}')

    def make(endpoint, **more):
        base = {
            "engine.org_id": "acme",
            "source.type": "files",
            "source.paths": (str(folder),),
            "sink.type": "local",
            "sink.root": str(tmp_path / "landed"),
            "dead_letters.root": str(tmp_path / "dead"),
            "telemetry.endpoint": endpoint,
        }
        return load(env={}, overrides=base | {name.replace("__", "."): value for name, value in more.items()})

    return make


class Observer(contextlib.nullcontext):
    """Keeps the readings of a run."""

    readings = None

    def __call__(self, progress):
        pass


def warnings(caplog):
    return [each for each in caplog.records if each.name == "lmstream.telemetry"]


def told_over_http(readings):
    """/metrics as numbers: (name, labels) to value, without histograms."""
    found = {}
    for family in text_string_to_metric_families(prometheus.render(readings).decode()):
        for sample in family.samples:
            if family.type != "histogram":
                found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def told_over_otlp(metrics):
    found = {}
    for name, metric in metrics.items():
        if metric.WhichOneof("data") != "histogram":
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                found[name, tuple(sorted(attributes(point).items()))] = point.as_double
    return found


async def test_a_collector_is_told_what_metrics_serves_in_the_words_of_the_catalogue(config, receiver):
    began, observer = time.time_ns(), Observer()
    more = {"telemetry__attributes": {"deployment.environment.name": "test"}}
    progress = await serve(config(receiver.endpoint, **more), observer)
    assert (progress.records, progress.dead_letters, progress.unacked) == (4, 1, 0)
    assert [path for path, _ in receiver.requests] == ["/v1/metrics"], "once, at the end; no spans unless asked for"
    metrics = receiver.metrics()
    served, sent = told_over_http(observer.readings), told_over_otlp(metrics)
    assert sent.keys() == served.keys()
    assert sent["lmstream_rows_accepted_total", ()] == progress.accepted > 0
    for key, value in served.items():
        assert key[0] in UNLIKE or sent[key] == value, key
    assert list(metrics) == [each.name for each in SERVED if each.name in metrics], "in the order of the catalogue"
    for name, metric in metrics.items():
        known = BY_NAME[name]
        assert (metric.description, metric.unit) == (known.help, UNITS[known.unit])
        data = metric.WhichOneof("data")
        assert data == {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}[known.kind]
        for point in getattr(metric, data).data_points:
            assert set(attributes(point)) == set(known.labels)
            assert began <= point.time_unix_nano <= time.time_ns()
            if data != "gauge":
                assert began <= point.start_time_unix_nano < point.time_unix_nano
                assert getattr(metric, data).aggregation_temporality == 2  # cumulative
        assert data != "sum" or metric.sum.is_monotonic
    (durations,) = metrics["lmstream_sink_request_duration_seconds"].histogram.data_points
    known = observer.readings.request_durations()
    assert list(durations.bucket_counts) == known.counts
    assert len(durations.explicit_bounds) == len(known.counts) - 1
    assert (durations.count, durations.sum) == (sum(known.counts), known.total)
    assert durations.count > 0
    who = f"{socket.gethostname()}:{os.getpid()}"
    assert receiver.resource() == {
        "service.name": "lmstream",
        "service.version": __version__,
        "service.instance.id": who,
        "deployment.environment.name": "test",
    }


async def test_each_batch_is_a_span_and_they_add_up_to_the_run(config, receiver):
    progress = await serve(config(receiver.endpoint, telemetry__traces=1))
    spans = [(span, attributes(span)) for span in receiver.spans]
    assert sum(found["lmstream.records"] for _, found in spans) == progress.records == 4
    assert sum(found["lmstream.rows"] for _, found in spans) == progress.rows > 0
    assert sum(found["lmstream.letters"] for _, found in spans) == 1
    assert len({(span.trace_id, span.span_id) for span, _ in spans}) == len(spans)
    bad = [(span, found) for span, found in spans if found["lmstream.letters"]]
    ((span, found),) = bad
    assert len(found["lmstream.codes"]) == 1
    assert found["error.type"] == found["lmstream.codes"][0]
    assert span.status.code == 2
    assert span.status.message == f"records with a dead letter: {found['error.type']} 1"
    for span, found in spans:
        assert (span.name, span.kind, span.parent_span_id) == ("batch", 5, b"")
        assert span.start_time_unix_nano < span.end_time_unix_nano
        assert len(found["lmstream.partitions"]) == len(found["lmstream.offsets"])


async def test_a_run_that_breaks_sends_its_last_metrics_and_the_spans_of_what_it_settled(config, receiver, tmp_path):
    (tmp_path / "bundles/9.json.gz").write_bytes(gzip.compress(os.urandom(1000))[:500])
    with pytest.raises(SourceError):
        await serve(config(receiver.endpoint, telemetry__traces=1))
    sent = told_over_otlp(receiver.metrics())["lmstream_bundles_consumed_total", ()]
    assert sum(attributes(span)["lmstream.records"] for span in receiver.spans) == sent > 0


@pytest.mark.parametrize(
    ("error", "code"), [(SourceError("source.stuck", "no"), "LMS-3007"), (KeyError("a bug"), "LMS-9001")]
)
async def test_a_span_that_is_open_when_a_run_breaks_is_sent_with_the_code(config, receiver, error, code):
    observer = Observer()
    await serve(config(""), observer)
    settings = config(receiver.endpoint, telemetry__traces=1).telemetry

    async def broken():
        async with telemetry.Telemetry(settings, observer.readings):
            observer.readings.runtime.assignments.batches.begun([record(1)])
            raise error

    with pytest.raises(type(error)):
        await broken()
    (span,) = receiver.spans
    assert attributes(span)["error.type"] == code
    assert attributes(span)["lmstream.unsettled"] == 1


@pytest.mark.parametrize("mode", ["503", "reset", "hang", "trickle", "closed"])
async def test_whatever_the_collector_does_the_run_ends_as_without_it_and_says_so_once(config, mode, caplog, tmp_path):
    with receiving() as receiver:
        receiver.mode = mode
        endpoint = receiver.endpoint
        if mode == "closed":
            with socket.create_server(("127.0.0.1", 0)) as free:
                endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        began = time.monotonic()
        progress = await serve(config(endpoint, telemetry__traces=1, telemetry__timeout=0.5))
        assert time.monotonic() - began < telemetry.FLUSH + 8
        assert (progress.records, progress.dead_letters, progress.unacked) == (4, 1, 0)
        assert list((tmp_path / "landed").rglob("*.gz"))
        said = warnings(caplog)
        assert [each.code for each in said] == ["LMS-4040"] * 2, "one for metrics, one for spans"
        assert all(endpoint in each.getMessage() for each in said)
        assert not any("\x1b" in each.getMessage() for each in said)
        if mode == "503":
            assert "HTTP 503 Service Unavailable: the queue is full" in said[0].getMessage()
        if mode in ("hang", "trickle"):
            assert "no answer within 0.5 s" in said[0].getMessage()


async def test_a_run_waits_for_its_last_export_no_longer_than_it_may(config, receiver, monkeypatch):
    monkeypatch.setattr(telemetry, "FLUSH", 0.3)
    receiver.mode = "hang"
    began = time.monotonic()
    progress = await serve(config(receiver.endpoint, telemetry__timeout=30))
    assert time.monotonic() - began < 10
    assert progress.unacked == 0
    assert len(receiver.requests) == 1


def test_a_collector_that_is_away_is_one_warning_and_its_return_another(receiver, caplog):
    now = 0.0
    collector = Collector(f"{receiver.endpoint}/below/", {}, 2.0, lambda: now)
    receiver.mode = "503"
    assert [collector.send("metrics", b"") for _ in range(5)] == [False] * 5
    assert [each.code for each in warnings(caplog)] == ["LMS-4040"]
    assert {path for path, _ in receiver.requests} == {"/below/v1/metrics"}
    collector = Collector(receiver.endpoint, {}, 2.0, lambda: now)
    caplog.clear()
    for mode in ("503", "503", "ok", "ok", "503", "ok"):
        receiver.mode = mode
        assert collector.send("metrics", b"") == (mode == "ok")
    told = [each.getMessage() for each in warnings(caplog)]
    assert len(told) == 2, "one that comes and goes is no news each time"
    assert "takes metrics again; 2 exports were lost" in told[1]
    now = QUIET
    receiver.mode = "503"
    assert not collector.send("metrics", b"")
    assert len(warnings(caplog)) == 3


@pytest.mark.parametrize("mode", ["hang", "trickle"])
def test_a_request_has_an_end_whatever_comes(receiver, mode):
    receiver.mode = mode
    began = time.monotonic()
    assert not Collector(receiver.endpoint, {}, 0.3).send("metrics", b"")
    assert 0.2 < time.monotonic() - began < 5


async def test_metrics_come_each_interval_and_spans_more_often_while_a_run_lasts(config, receiver, monkeypatch):
    monkeypatch.setattr(telemetry, "SPANS", 0.1)
    readings = Observer()
    await serve(config(""), readings)
    settings = config(receiver.endpoint, telemetry__interval=1, telemetry__traces=1).telemetry
    async with telemetry.Telemetry(settings, readings.readings):
        watched = readings.readings.runtime.assignments.batches
        one = watched.begun([record(1)])
        one.settled(TopicPartition("lm", 0), 0, 1, Status.DELIVERED)
        await until(lambda: receiver.spans, 5, "a span, before the metrics")
        assert not receiver.exports
        await until(lambda: len(receiver.exports) == 2, 10, "two exports")
    assert len(receiver.exports) == 3, "and one at the end"
    assert readings.readings.runtime.assignments.batches is None


async def test_a_fault_of_the_values_ends_nothing_and_is_said_once(config, receiver, monkeypatch, caplog):
    def broken(*_):
        raise KeyError("no such thing")

    monkeypatch.setattr(telemetry.otlp_metrics, "encoded", broken)
    progress = await serve(config(receiver.endpoint))
    assert progress.unacked == 0
    assert [each.code for each in warnings(caplog)] == ["LMS-9001"]


# Batches and the traces of their senders


def record(offset, partition=0, **headers):
    carried = tuple((name, value) for name, value in headers.items())
    return Record(topic="lm", partition=partition, offset=offset, value=b"", headers=carried)


def parent(span, trace=TRACE, version="00"):
    return f"{version}-{trace}-{span:016x}-01".encode()


class Spans(BatchSpans):
    def __init__(self, share=1.0):
        self.ended, self.faults = [], []
        super().__init__(share, {"service.name": "lmstream"}, self.ended.append, self.faults.append)


def settle(batch, *records):
    for each in records:
        batch.settled(each.tp, 0, each.offset, Status.DELIVERED)


def test_the_links_of_a_span_are_the_traces_that_the_headers_name_each_once():
    spans = Spans()
    records = [
        record(1, traceparent=parent(1), tracestate=b"lm=1"),
        Record(topic="lm", partition=0, offset=0, value=b"", headers=(("a", b""), ("traceparent", parent(1)))),
        record(2, traceparent=parent(1)),
        record(3, traceparent=parent(2)),
        record(4),
        record(5, traceparent=b"junk"),
        record(6, traceparent=None),
        record(7, traceparent=b"\xff" * 55),
        record(8, traceparent=parent(0)),
        record(9, traceparent=b"0" * 10_000_000),
        record(10, tracestate=b"lm=1"),
        record(11, traceparent=parent(3), tracestate=b"\x00;;=" * 100),
    ]
    settle(spans.begun(records), *records)
    (span,) = spans.ended
    assert [f"{each.context.span_id:x}" for each in span.links] == ["1", "2", "3"]
    assert {f"{each.context.trace_id:032x}" for each in span.links} == {TRACE}
    assert span.parent is None
    assert not spans.faults


def test_links_and_partitions_of_a_span_are_bounded_and_what_is_left_out_is_counted():
    spans = Spans()
    records = [record(n, n % 100, traceparent=parent(n + 1)) for n in range(1000)]
    settle(spans.begun(records), *records)
    (span,) = spans.ended
    assert len(span.links) == LINKS
    assert span.attributes["lmstream.links.more"] == 1000 - LINKS
    assert len(span.attributes["lmstream.partitions"]) == LISTED
    assert span.attributes["lmstream.partitions"][1] == "lm/1"
    assert span.attributes["lmstream.offsets"][1] == "1-901"
    assert span.attributes["lmstream.partitions.more"] == 100 - LISTED


def test_what_was_given_up_ends_its_part_of_a_span_and_a_late_settlement_changes_nothing():
    spans = Spans()
    records = [record(1), record(2, 1), record(3, 1)]
    batch = spans.begun(records)
    settle(batch, records[0])
    assert not spans.ended
    spans.given_up([TopicPartition("lm", 1), TopicPartition("lm", 7)])
    (span,) = spans.ended
    assert span.attributes["lmstream.revoked"] == 2
    settle(batch, records[1])
    spans.given_up([TopicPartition("lm", 1)])
    assert len(spans.ended) == 1
    spans.close("LMS-4003")
    assert len(spans.ended) == 1
    assert not spans.faults


def test_what_is_open_at_the_end_is_an_error_with_the_code_that_ended_the_run():
    spans = Spans()
    spans.begun([record(1), record(2)])
    spans.close("LMS-4003")
    (span,) = spans.ended
    assert span.attributes["lmstream.unsettled"] == 2
    assert span.attributes["error.type"] == "LMS-4003"
    assert span.status.description == "2 records were not settled when the run ended: LMS-4003"


def test_a_share_of_the_batches_has_a_span():
    spans = Spans(0.25)
    many = sum(spans.begun([record(n)]) is not None for n in range(2000))
    assert 350 < many < 650


def test_a_fault_of_a_span_costs_the_span_alone(monkeypatch):
    spans = Spans()
    batch = spans.begun([record(1)])
    monkeypatch.setattr(type(batch), "end", lambda *_: 1 / 0)
    settle(batch, record(1))
    monkeypatch.setattr(spans, "_tracer", None)
    assert spans.begun([record(2)]) is None
    assert [type(each) for each in spans.faults] == [ZeroDivisionError, AttributeError]


@pytest.mark.slow  # joining a group takes the broker seconds
@pytest.mark.parametrize("kind", ["kafka", "confluent"])
async def test_the_context_of_a_producer_comes_through_the_broker_to_the_span_of_its_batch(receiver, tmp_path, kind):
    async with KafkaLab() as lab:
        await lab.create_topic("lm", 1)
        payloads = [each.payload for each in islice(Generator(instances=2).bundles(), 2)]
        for n, payload in enumerate(payloads, 1):
            await produce(lab, "lm", [payload], headers=[("traceparent", parent(n))])
        wanted = {
            "engine.org_id": "acme",
            "source.type": kind,
            "source.topics": ("lm",),
            "source.group": "g",
            "source.bootstrap": lab.bootstrap,
            "source.start_from": "earliest",
            "sink.type": "local",
            "sink.root": str(tmp_path / "landed"),
            "dead_letters.type": "letters",
            "dead_letters.root": str(tmp_path / "dead"),
            "rolling.age": 0.1,
            "endpoints.address": "off",
            "telemetry.endpoint": receiver.endpoint,
            "telemetry.traces": 1,
        }
        settled, observer = [], Observer()
        config = load(env={}, overrides=wanted)
        running = asyncio.create_task(serve(config, observer, on_settled=lambda *each: settled.append(each)))
        await until(lambda: len(settled) == 2 or running.done(), 40, "both are settled")
        observer.readings.runtime.stop()
        progress = await running
    assert progress.unacked == 0
    spans = receiver.spans
    links = [link for span in spans for link in span.links]
    assert sorted(link.span_id.hex() for link in links) == [f"{n:016x}" for n in (1, 2)]
    assert {link.trace_id.hex() for link in links} == {TRACE}
    found = [attributes(span) for span in spans]
    assert sum(each["lmstream.rows"] for each in found) == progress.rows > 0
    assert {name for each in found for name in each["lmstream.partitions"]} == {"lm/0"}
    assert found[0]["lmstream.offsets"][0].startswith("0-")
    assert told_over_otlp(receiver.metrics())["lmstream_bundles_consumed_total", ()] == 2


# Settings


def test_headers_are_sent_and_shown_nowhere(config, receiver, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("OTLP_TOKEN", "Bearer canary-77")
    file = tmp_path / "tenant"
    file.write_text("acme\n")
    headers = {"authorization": "env:OTLP_TOKEN", "X-Scope-OrgID": f"file:{file}"}
    asyncio.run(serve(config(receiver.endpoint, telemetry__headers=headers)))
    (_, sent), *_ = receiver.requests
    assert sent["authorization"] == "Bearer canary-77"
    assert sent["X-Scope-OrgID"] == "acme"
    (tmp_path / "c.toml").write_text('[telemetry]\nheaders = { "x-key" = "canary-78", "b" = "env:B" }\n')
    assert main(["config", "show", "--config", str(tmp_path / "c.toml")]) == 0
    said = capsys.readouterr().out
    assert "canary" not in said
    assert "env:B" in said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("authorization", "canary-79", "telemetry.headers.authorization must be env:NAME or file:PATH"),
        ("authorization", "env:NO_SUCH_THING", "the environment has no NO_SUCH_THING"),
        ("a b", "env:OTLP_TOKEN", "no name of an HTTP header"),
        ("authorization", "env:OTLP_LINES", "has characters that HTTP does not take"),
    ],
)
async def test_headers_that_cannot_be_sent_are_refused_before_anything_is_read(config, monkeypatch, name, value, said):
    monkeypatch.setenv("OTLP_TOKEN", "x")
    monkeypatch.setenv("OTLP_LINES", "canary-80\r\nHost: evil")
    with pytest.raises(ConfigError) as raised:
        await serve(config("http://127.0.0.1:1", telemetry__headers={name: value}))
    assert said in str(raised.value)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "127.0.0.1:4318",
        "grpc://h:4317",
        "http://",
        "http://h:0",
        "http://h:99999",
        "http://canary:81@h",
        "http://h?a=1",
    ],
)
def test_an_endpoint_that_is_none_is_refused_and_not_repeated(config, endpoint):
    with pytest.raises(ConfigError, match=r"telemetry.*http://HOST:PORT") as raised:
        config(endpoint)
    assert "canary" not in str(raised.value)


RUN = ["--org=acme", "--sink=local", "--set=sink.root={0}/landed", "--files={0}/bundles"]


@pytest.mark.parametrize("verb", ["validate", "run"])
def test_without_the_extra_an_endpoint_is_refused_by_its_name(config, tmp_path, verb):
    assert config
    arguments = [each.format(tmp_path) for each in RUN] + ["--set=telemetry.endpoint=http://127.0.0.1:4318"]
    block = "import sys; sys.modules['opentelemetry.sdk'] = None\n"
    code = f"{block}from lmstream.cli import main; sys.exit(main({[verb, *arguments]!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    text = done.stdout + done.stderr
    assert "telemetry.endpoint needs the extra [otel]" in text
    assert "LMS-2002" in text
    assert not (tmp_path / "landed").exists()


def test_without_an_endpoint_nothing_of_it_is_loaded_and_no_batch_is_watched(config, tmp_path):
    assert config
    arguments = ["run", *(each.format(tmp_path) for each in RUN)]
    code = (
        "import sys; from lmstream.cli import main; from lmstream.runtime.assignments import Assignments as A\n"
        "accept = A.accept; seen = []\n"
        "A.accept = lambda self, batch: (seen.append(self.batches), accept(self, batch))[1]\n"
        f"code = main({arguments!r}); assert seen and set(seen) == {{None}}, seen\n"
        "assert 'opentelemetry.sdk' not in sys.modules; assert 'lmstream.observability.telemetry' not in sys.modules\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


async def test_validate_asks_the_collector_for_metrics_and_for_traces_if_there_are_any(config, receiver):
    found = {each.name: each for each in await live(config(receiver.endpoint, telemetry__traces=0.5))}
    assert found[f"collector {receiver.endpoint}"].verdict == "ok"
    said = [each.said for each in await live(config(receiver.endpoint)) if each.name.startswith("collector")]
    assert said == ["takes metrics"]
    receiver.mode = "503"
    (refused,) = [each for each in await live(config(receiver.endpoint)) if each.name.startswith("collector")]
    assert (refused.verdict, refused.code) == ("warning", "LMS-4040")
    assert "does not take metrics: HTTP 503" in refused.said
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{one.getsockname()[1]}"
        (refused,) = [each for each in await live(config(away)) if each.name.startswith("collector")]
    assert "does not take metrics: ConnectionRefusedError" in refused.said
