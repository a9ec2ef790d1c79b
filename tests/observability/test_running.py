"""A consumer as an operator meets it: endpoints, metrics, logs and lag, through an outage and back."""

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lmstream.delivery import Sums
from lmstream.lab import FirehoseLab, KafkaLab, StreamConfig
from lmstream.observability.metrics_catalogue import SERVED
from lmstream.settings import Settings
from support.wait import until

CANARY = "canary-5f1c9a-secret"
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTREAM_", "AWS_"))} | {
    "COLUMNS": "200",
    "AWS_ACCESS_KEY_ID": "lab",
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(*args, **env):
    command = [sys.executable, "-m", "lmstream", *map(str, args)]
    return asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV | env, limit=1 << 20
    )


async def call(*args):
    process = await start(*args)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


class Consumer:
    """A run in a process of its own, and what it says."""

    def __init__(self, lab, hose, folder):
        self.lab, self.hose, self.folder = lab, hose, folder
        self.address = f"127.0.0.1:{free_port()}"
        self.said = []

    @property
    def connection(self):
        pem = self.lab.certificates
        return ["--bootstrap", self.lab.bootstrap, "--ca", pem.ca, "--cert", pem.client_cert, "--key", pem.client_key]

    async def start(self):
        settings = {
            "source.session_timeout_ms": 3000,
            "source.heartbeat_interval_ms": 300,
            "endpoints.address": self.address,
            "logs.format": "json",
            "run.report_seconds": 0.5,
            "delivery.timeout": 5,
            "sink.call_timeout": 5,
            "delivery.backoff_max": 1,
            "runtime.grace": 12,
        }
        self.process = await start(
            *("run", *self.connection, "--topic", "lm", "--group", "lmstream", "--org", "acme"),
            *("--stream", "rows", "--region", "us-east-1"),
            *("--endpoint-url", self.hose.endpoint_url, "--dead-letters", self.folder / "dead"),
            *(f"--set={key}={value}" for key, value in settings.items()),
        )
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        async for line in self.process.stderr:
            self.said.append(line.decode())

    async def get(self, path):
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(f"http://{self.address}{path}") as answer,
            ):
                return answer.status, await answer.text()
        except aiohttp.ClientConnectionError:
            return 0, ""

    async def until(self, what, seconds=30):
        end = time.monotonic() + seconds
        while True:
            found = what()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            assert time.monotonic() < end, (what, self.said[-5:])
            assert self.process.returncode is None, self.said[-5:]
            await asyncio.sleep(0.1)

    async def status(self):
        return json.loads((await self.get("/statusz"))[1])

    async def ready(self):
        return (await self.get("/readyz"))[0] == 200

    async def metrics(self):
        _, text = await self.get("/metrics")
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def stop(self):
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self):
        async with asyncio.timeout(40):
            await self.process.wait()
            await self.reading
        return self.process.returncode


@pytest.fixture
async def consumer(tmp_path):
    stream = StreamConfig.for_settings("rows", Settings(org_id="acme"), speed_up=60.0)
    async with KafkaLab(tmp_path / "pem", mtls=True) as lab, FirehoseLab(stream, tmp_path / "landed") as hose:
        await lab.create_topic("lm", 2)
        made = Consumer(lab, hose, tmp_path)
        await made.start()
        yield made
        if made.process.returncode is None:
            made.process.kill()
            await made.process.wait()
        await made.reading


async def publish(consumer, count, *flags):
    code, _, err = await call(
        "publish", *consumer.connection, "--topic", "lm", "--count", count, "--instances", 2, *flags
    )
    assert code == 0, err


@pytest.mark.slow
async def test_what_an_operator_sees_through_an_outage_and_back(consumer):
    await consumer.until(consumer.ready)
    await publish(consumer, 40, "--poison", 0.1)

    async def all_in():
        return (await consumer.status())["counts"]["records"] == 40

    await consumer.until(all_in)
    await consumer.until(lambda: _settled(consumer))
    calm = await consumer.metrics()
    assert calm["lmstream_rows_accepted_total", ()] > 100
    assert calm["lmstream_dead_letters_total", ()] >= 1
    assert calm["lmstream_sink_requests_total", (("outcome", "ok"),)] >= 1
    assert calm["lmstream_sink_request_duration_seconds_count", ()] == sum(
        value for (name, _), value in calm.items() if name == "lmstream_sink_requests_total"
    )
    assert calm["lmstream_tls_cert_expiry_timestamp_seconds", ()] > time.time()
    lags = {labels: value for (name, labels), value in calm.items() if name == "lmstream_consumer_lag_records"}
    assert lags == {(("partition", str(n)), ("topic", "lm")): 0 for n in (0, 1)}

    # The sink goes away: not one row is lost, and everything says what is wrong.
    consumer.hose.outage = True
    await publish(consumer, 20)

    async def troubled():
        status = await consumer.status()
        return status["sink"]["trouble"] and status["in_flight"]["records"] and status

    status = await consumer.until(troubled)

    async def told():
        last = (await consumer.status())["last_error"]
        return last and last["code"] == "LMS-4002" and "ServiceUnavailableException" in last["message"]

    await consumer.until(told)
    assert status["sink"]["trouble"]["code"] == "ServiceUnavailableException"
    code, out, err = await call(
        "lag", *consumer.connection, "--topic", "lm", "--group", "lmstream", "--json", "--retention", "6h"
    )
    assert code == 0, err
    lag = [json.loads(line) for line in out.splitlines()]
    assert {each["partition"] for each in lag} == {0, 1}
    assert sum(each["records"] for each in lag) >= 1
    waiting = [each for each in lag if each["records"]]
    assert all(0 <= each["seconds"] < 120 for each in waiting)
    assert all(6 * 3600 - 120 < each["loss"] <= 6 * 3600 for each in waiting)
    assert (await consumer.get("/healthz"))[0] == 200, "an outage of the sink is no reason to restart"
    code, out, _ = await call("health", "--address", consumer.address)
    assert code == 0
    assert out.startswith("ok: the event loop last ran ")

    consumer.hose.outage = False

    async def back():
        status = await consumer.status()
        return status["counts"]["records"] == 60 and not status["in_flight"]["records"]

    await consumer.until(back)
    after = await consumer.status()
    sums = Sums(**after["sums"])
    assert status["in_flight"]["rows"] > after["in_flight"]["rows"] == 0
    assert (sums.right, sums.records, sums.rows) == (True, 60, after["counts"]["rows_accepted"])
    assert (await consumer.metrics())["lmstream_sink_records_retried_total", ()] >= 1
    assert await consumer.stop() == 0
    _judge_lines(consumer)


async def _settled(consumer):
    status = await consumer.status()
    lags = [each["lag_records"] for each in status["assignment"]]
    return not status["in_flight"]["records"] and lags == [0, 0]


def _judge_lines(consumer):
    """Every line is one JSON object; warnings have a code or coordinates; no secret, no payload."""
    lines = [json.loads(line) for line in consumer.said]
    assert {"event", "level", "logger", "timestamp"} <= set.intersection(*map(set, lines))
    status = [line for line in lines if re.match(r"\d+ s: ", line["event"])]
    assert status
    assert any(line["event"].startswith("endpoints are at") for line in lines)
    assert any(line["event"].startswith("done in") for line in lines)
    warnings = [line for line in lines if line["level"] in {"warning", "error"}]
    assert all(re.fullmatch(r"LMS-\d{4}", line["code"]) for line in warnings)
    letters = [line for line in warnings if "is dead-lettered" in line["event"]]
    assert letters
    assert all({"topic", "partition", "offset", "reason"} <= line.keys() for line in letters)
    assert any(line["event"].startswith("the sink accepts no rows") for line in warnings)
    assert any(line["event"].startswith("the sink accepts rows again") for line in warnings)
    text = "".join(consumer.said)
    assert CANARY not in text
    assert "timeUnixNano" not in text
    assert "dataSourceInstanceName" not in text
    assert "PRIVATE KEY" not in text


async def test_every_metric_of_the_catalogue_is_served_and_no_other(consumer):
    await consumer.until(consumer.ready)
    await publish(consumer, 30, "--chaos", 0.3)
    await consumer.until(lambda: _settled(consumer))
    _, text = await consumer.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    wanted = {
        metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name: metric for metric in SERVED
    }
    assert families.keys() == wanted.keys()
    for name, family in families.items():
        assert family.type == wanted[name].kind
        assert family.documentation == wanted[name].help
        for sample in family.samples:
            if wanted[name].kind != "histogram":
                assert tuple(sorted(sample.labels)) == tuple(sorted(wanted[name].labels))
    assert CANARY not in text


async def test_it_is_not_ready_while_it_drains(consumer):
    await consumer.until(consumer.ready)
    consumer.hose.outage = True
    await publish(consumer, 5)
    await consumer.until(lambda: _in_flight(consumer))
    consumer.process.send_signal(signal.SIGTERM)
    status, why = await consumer.until(lambda: _not_ready(consumer))
    assert status == 503
    assert re.match(r"no: draining, since 20\S+Z\n\d partitions? (is|are) not settled; the oldest record is of 20", why)
    assert "retention is unknown: the brokers do not report it" in why
    assert (await consumer.get("/healthz"))[0] == 200
    code, out, _ = await call("health", "--ready", "--address", consumer.address)
    assert code == 1
    assert out.startswith("no: draining, since ")
    consumer.hose.outage = False
    assert await consumer.ended() == 0


@pytest.mark.slow
async def test_while_nothing_settles_it_is_not_ready_and_says_why_and_a_stop_says_what_is_at_stake(consumer):
    await consumer.until(consumer.ready)
    consumer.hose.outage = True
    began = time.time()
    await publish(consumer, 5)
    published = time.time()
    await consumer.until(lambda: _in_flight(consumer))
    _, why = await consumer.until(lambda: _not_ready(consumer))
    assert time.time() - published < 2 * 5 + 5, "two timeouts of a request"
    assert re.match(
        r"no: \d records in flight, none is settled: the sink: ServiceUnavailableException: .*, since 20", why
    )
    status = await consumer.status()
    assert (status["ready"], status["why"] in why, status["not_ready_since"][:16] in why) == (False, True, True)
    assert status["behind"].startswith(why.splitlines()[1].partition("(")[0])
    worst = max(each["lag_seconds"] for each in status["assignment"] if each["lag_records"])
    assert time.time() - published - 2 < worst < time.time() - began
    code, out, _ = await call("health", "--ready", "--address", consumer.address)
    assert (code, out.count("\n")) == (1, 3)
    assert out.partition(", since")[0] == why.partition(", since")[0]
    assert (await consumer.metrics())["lmstream_ready", ()] == 0
    assert await consumer.stop() == 75
    lines = [json.loads(line)["event"] for line in consumer.said]
    assert any(re.search(r"\d+(\.\d)? s behind", line) for line in lines)
    (left,) = [line for line in lines if line.endswith("start again soon")]
    assert re.match(
        r"\d partitions? (is|are) not settled; the oldest record is of 20\S+Z \(.*lm/\d\); retention is unk", left
    )


async def _in_flight(consumer):
    return (await consumer.status())["in_flight"]["records"] > 0


async def _not_ready(consumer):
    answer = await consumer.get("/readyz")
    return answer if answer[0] == 503 else None


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.slow
async def test_a_flood_of_the_port_takes_neither_the_file_descriptors_nor_the_rows(consumer):
    await consumer.until(consumer.ready)
    resource.prlimit(consumer.process.pid, resource.RLIMIT_NOFILE, (256, 256))
    sockets = [socket.socket() for _ in range(600)]
    asked = set()

    def ask():
        for each in sockets:
            with contextlib.suppress(OSError):
                if each not in asked and each.send(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 400):
                    asked.add(each)  # and what is answered is never read

    try:
        for each in sockets:
            each.settimeout(0)
            each.connect_ex(("127.0.0.1", int(consumer.address.rpartition(":")[2])))
        publishing = asyncio.create_task(publish(consumer, 60))
        # Connections that find the queue full come again after a second, whatever the machine.
        await until(lambda: ask() or (publishing.done() and len(asked) > 200), 15, "a flood")
        await publishing

        async def delivered():
            ask()
            status = await consumer.status()
            return status["counts"]["records"] >= 60 and status["in_flight"]["records"] == 0

        await consumer.until(delivered, 10)
        assert descriptors(consumer.process.pid) < 256 - 64
        assert not [line for line in consumer.said if "EMFILE" in line or "LMS-4005" in line]
    finally:
        for each in sockets:
            each.close()


async def test_nobody_there_is_exit_1():
    code, out, err = await call("health", "--address", f"127.0.0.1:{free_port()}")
    assert (code, out) == (1, "")
    assert "does not answer: " in err
