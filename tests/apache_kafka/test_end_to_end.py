"""The job as its users run it: publish, run, Firehose, verify, each over the cluster's own mTLS."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lmstream import Settings
from lmstream.lab import FirehoseLab, StreamConfig
from lmstream.verification import log_entries, verify

ENV = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTREAM_", "AWS_"))}
ENV |= {"COLUMNS": "200", "AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab", "NO_PROXY": "127.0.0.1"}


def start(*args):
    command = [sys.executable, "-m", "lmstream", *map(str, args)]
    return asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)


async def call(*args):
    """Run a command to its end. A slow publish takes 25 seconds by its rate, and twice that on a busy machine."""
    process = await start(*args)
    try:
        async with asyncio.timeout(180):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, out.decode(), err.decode()


def connection(cluster):
    flags = ["--bootstrap", cluster.bootstrap]
    if pem := cluster.certificates:
        flags += ["--ca", pem.ca, "--cert", pem.client_cert, "--key", pem.client_key]
    return flags


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_is_published_lands_and_is_verified(cluster, topic, module, tmp_path, workers):
    log, landed, dead = (tmp_path / name for name in ("log.jsonl", "landed", "dead"))
    for folder in (landed, dead):
        folder.mkdir()
    await cluster.create_topic(topic, 4)
    common = [*connection(cluster), "--topic", topic]
    code, out, err = await call(
        "publish", "--yes", *common, "--count", 300, "--chaos", 0.02, "--poison", 0.02, "--verifiable", log, "--json"
    )
    assert code == 0, err
    assert json.loads(out)["bundles"] == 300
    quick = [f"--set=source.{name}={value}" for name, value in cluster.group.items()]
    stream = StreamConfig.for_settings("rows", Settings(org_id="acme"), speed_up=60.0)

    def report():
        return verify(log_entries(log), landed, dead)

    async with FirehoseLab(stream, landed) as hose:
        run = await start(
            *("run", *common, "--source", module.__name__.rpartition(".")[2], "--group", topic, *quick),
            *("--org", "acme", "--stream", "rows", "--region", "us-east-1", "--endpoint-url", hose.endpoint_url),
            *("--dead-letters", dead, "--workers", workers),
        )
        said = asyncio.create_task(run.communicate())
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until and not said.done():
                await asyncio.sleep(0.5)
                await hose.flush()
                if (await asyncio.to_thread(report)).ok:
                    break
        finally:
            if run.returncode is None:
                run.send_signal(signal.SIGTERM)
            async with asyncio.timeout(45):
                _, err = await said
    assert run.returncode == 0, err.decode()
    assert report().ok, err.decode()
    where = ["--landed", landed, "--dead-letters", dead, "--json"]
    code, out, err = await call("verify", "--expected", log, *where)
    assert code == 0, out + err
    by_log = json.loads(out)["total"]
    code, out, err = await call("verify", *common, "--group", topic, "--org", "acme", *where)
    assert code == 0, out + err
    assert json.loads(out)["total"] == by_log
    assert (by_log["bundles"], by_log["lost"], by_log["phantom"], by_log["duplicate"]) == (300, 0, 0, 0)


async def test_who_is_not_let_in_is_told_so(ours, topic, module, tmp_path):
    await ours.create_topic(topic)
    code, _, err = await call(
        *(
            "run",
            "--bootstrap",
            ours.bootstrap,
            "--ca",
            ours.certificates.ca,
            "--topic",
            topic,
            "--group",
            topic,
            "--org",
            "acme",
        ),
        *("--source", module.__name__.rpartition(".")[2], "--landed", tmp_path / "a", "--dead-letters", tmp_path / "b"),
    )
    assert (code, "LMS-3" in err, "requires a client certificate" in err, "Traceback" in err) == (
        1,
        True,
        True,
        False,
    ), err
