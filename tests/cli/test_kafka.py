"""publish, run, verify and inspect against a real broker, over mTLS."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from lmstream.lab import KafkaLab
from lmstream.verification import Expected

ENV = {k: v for k, v in os.environ.items() if not k.startswith("LMSTREAM_")} | {"COLUMNS": "200"}


@pytest.fixture
async def kafka(tmp_path):
    async with KafkaLab(tmp_path / "pem", mtls=True) as lab:
        await lab.create_topic("lm", 2)
        yield lab


def lmstream(*args):
    return [sys.executable, "-m", "lmstream", *map(str, args)]


def tls(lab):
    pem = lab.certificates
    return ["--bootstrap", lab.bootstrap, "--ca", pem.ca, "--cert", pem.client_cert, "--key", pem.client_key]


async def call(*args):
    process = await asyncio.create_subprocess_exec(
        *lmstream(*args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.slow
async def test_publish_run_verify_inspect(kafka, tmp_path):
    log, landed, dead = tmp_path / "log.jsonl", tmp_path / "landed", tmp_path / "dead"
    common = [*tls(kafka), "--topic", "lm"]
    code, out, err = await call(
        "publish",
        *common,
        "--count",
        40,
        "--instances",
        2,
        "--chaos",
        0.1,
        "--poison",
        0.1,
        "--verifiable",
        log,
        "--json",
    )
    assert code == 0, err
    entries = [msgspec.json.decode(line, type=Expected) for line in log.read_bytes().splitlines()]
    assert json.loads(out)["bundles"] == len(entries) == 40
    assert json.loads(out)["rows"] == sum(e.points - len(e.absent) for e in entries)

    # The consumer, stopped by SIGTERM once everything has landed.
    run = await asyncio.create_subprocess_exec(
        *lmstream("run", *common, "--group", "lmstream", "--org", "acme", "--landed", landed, "--dead-letters", dead),
        *(
            "--set",
            "source.session_timeout_ms=3000",
            "--set",
            "source.heartbeat_interval_ms=300",
            "--set",
            "sink.window_seconds=0.2",
        ),
        *("--set", "run.report_seconds=0.5", "--strict"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENV,
    )
    verify = ["verify", "--expected", log, "--landed", landed, "--dead-letters", dead, "--json"]
    until = time.monotonic() + 40
    report = {}
    while time.monotonic() < until and not report.get("ok"):
        await asyncio.sleep(0.3)
        if landed.is_dir() and dead.is_dir():
            _, out, _ = await call(*verify)
            report = json.loads(out) if out else {}
    run.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        _, said = await run.communicate()
    assert report.get("ok"), said.decode()
    assert run.returncode == 4, said.decode()  # --strict, and some records were dead-lettered
    assert b"stopping" in said
    assert b"rows/s" in said
    assert report["total"]["duplicate"] == 0

    # The topic itself says the same as the log.
    code, out, err = await call(
        *("verify", *common, "--group", "lmstream", "--org", "acme"),
        *("--landed", landed, "--dead-letters", dead, "--json"),
    )
    assert code == 0, err
    assert json.loads(out)["total"]["landed"] == report["total"]["landed"]
    part = [
        *common,
        "--group",
        "lmstream",
        "--org",
        "acme",
        "--landed",
        landed,
        "--from",
        "0=0",
        "--to",
        "0=2",
    ]
    code, out, err = await call("verify", *part, "--json")
    assert code == 0, err
    total = json.loads(out)["total"]
    assert 2 <= total["bundles"] < 40  # the whole windows that have these offsets, and none of the other partition

    good = next(e for e in entries if not e.poison)
    code, out, err = await call("inspect", f"lm/{good.partition}/{good.offset}", *tls(kafka), "--rows", "--org", "acme")
    assert code == 0, err
    assert good.bundle_id in out
    code, _, err = await call("inspect", "lm/0/999999", *tls(kafka))
    assert code == 1
    assert "LMS-3" in err


@pytest.mark.slow
async def test_workers_share_the_topic_and_stop_together(kafka, tmp_path):
    log, landed, dead = tmp_path / "log.jsonl", tmp_path / "landed", tmp_path / "dead"
    common = [*tls(kafka), "--topic", "lm"]
    assert (await call("publish", *common, "--count", 30, "--instances", 2, "--verifiable", log))[0] == 0
    run = await asyncio.create_subprocess_exec(
        *lmstream(
            "run",
            *common,
            "--group",
            "lmstream",
            "--org",
            "acme",
            "--landed",
            landed,
            "--dead-letters",
            dead,
            "--workers",
            2,
        ),
        *("--set", "source.session_timeout_ms=3000", "--set", "source.heartbeat_interval_ms=300"),
        *("--set", "sink.window_seconds=0.2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENV,
    )
    try:
        until = time.monotonic() + 40
        code = -1
        while time.monotonic() < until and code != 0:
            await asyncio.sleep(0.3)
            if landed.is_dir():
                code, _, _ = await call("verify", "--expected", log, "--landed", landed)
    finally:
        run.send_signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            _, said = await run.communicate()
    assert (code, run.returncode) == (0, 0), said.decode()
    assert b"worker 1: done in" in said
    assert b"worker 2: done in" in said


async def test_wrong_topics_and_certificates_are_one_clear_message(kafka, tmp_path):
    code, _, err = await call("publish", *tls(kafka), "--topic", "nowhere", "--count", 1)
    assert (code, "LMS-3003" in err, "Traceback" in err) == (1, True, False)
    code, _, err = await call(
        "publish", "--bootstrap", kafka.bootstrap, "--ca", kafka.certificates.ca, "--topic", "lm", "--count", 1
    )
    assert (code, "LMS-3013" in err, "Traceback" in err) == (1, True, False)
    code, _, err = await call(
        *("run", *tls(kafka), "--topic", "lm", "--group", "g", "--org", "a", "--landed", tmp_path / "x")
    )
    assert (code, "dead_letters.root" in err) == (2, True)


@pytest.mark.parametrize("verb", [("verify", "--landed", "."), ("publish",), ("topic", "--partitions", "1")])
def test_verbs_of_one_topic_refuse_a_pattern(cli, tmp_path, monkeypatch, verb):
    """They would read nothing of it, and say that nothing is there."""
    monkeypatch.chdir(tmp_path)
    said = cli(*verb, "--topic", "^lm.*", "--bootstrap", "127.0.0.1:1")
    assert said.code == 2
    assert "name one topic" in said.err, said.err


@pytest.mark.slow
async def test_publish_asks_before_it_invents_metrics_anywhere_but_in_the_lab(kafka, tmp_path):
    command = ["--topic", "lm", "--count", 3]
    assert (await call("publish", *tls(kafka), *command))[0] == 0
    async with KafkaLab(tmp_path / "theirs", mtls=True, cluster="somebody-elses") as lab:
        await lab.create_topic("lm", 2)
        command = ["publish", *tls(lab), *command]
        code, out, err = await call(*command)
        assert (code, out) == (2, "")
        assert f"topic lm at {lab.bootstrap} is empty, and the brokers are not the lab's" in err
        assert "--yes" in err
        assert (await call(*command, "--yes"))[0] == 0
        code, out, err = await call(*command)  # into what it published itself
        assert (code, out[:18]) == (0, "published 3 bundle"), err
        producer = AIOKafkaProducer(
            bootstrap_servers=lab.bootstrap, security_protocol="SSL", ssl_context=lab.client_context()
        )
        await producer.start()
        try:
            await producer.send_and_wait("lm", b"a device's", partition=1)
        finally:
            await producer.stop()
        code, out, err = await call(*command)
        assert (code, out) == (2, "")
        assert "topic lm holds records that `publish` did not write (partition 1)" in err
        for answer, ended in (("n", 2), ("y", 0)):
            process, said = await asyncio.to_thread(asked_on_a_terminal, command, answer)
            assert process == ended, said
            assert "publish invented metrics there? [y/N]" in said
        code, _, err = await call(*command, "--yes")
        assert code == 0, err


def asked_on_a_terminal(command, answer):
    """Play a verb on a terminal that answers; its exit code and what the terminal showed."""
    mine, its = pty.openpty()
    process = subprocess.Popen(lmstream(*command), stdin=its, stdout=subprocess.PIPE, stderr=its, env=ENV)
    os.close(its)
    os.write(mine, f"{answer}\n".encode())
    process.communicate(timeout=60)
    said = os.read(mine, 65536).decode()
    os.close(mine)
    return process.returncode, said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")  # noqa: PTH110 - a device
async def test_a_log_that_cannot_be_written_costs_neither_the_counts_nor_the_exit_code(kafka):
    command = ["publish", *tls(kafka), "--topic", "lm", "--count", 300, "--verifiable", "/dev/full", "--json"]
    code, out, err = await call(*command)
    assert (code, json.loads(out)["bundles"], json.loads(out)["failed"]) == (1, 300, {})
    assert "--verifiable /dev/full: No space left on device: bundles that were acknowledged are missing in it" in err
    assert "Traceback" not in err
    assert "LMS-9001" not in err
