"""One input through `run`, `dlq stats` and `verify`: the same numbers under the same words, on the page too."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from aiokafka import AIOKafkaProducer

from lmstream.lab import KafkaLab
from support.repoison import TIME, metrics

ENV = {k: v for k, v in os.environ.items() if not k.startswith("LMSTREAM_")} | {"COLUMNS": "200"}
POINTS = ",".join(f"{{{TIME}{value}}}" for value in (',"asInt":1', ',"asInt":2', ',"asDouble":"NaN"', ""))
GAUGE = f'{{"name":"m","gauge":{{"dataPoints":[{POINTS}]}}}}'  # two rows, one skipped, one rejected
UNCOUNTED = '{"name":"x","gauge":{"dataPoints":5}}'
RECORDS = {
    "understood": [metrics(GAUGE)] * 3 + [metrics(f"{GAUGE},{UNCOUNTED}")],
    "empty": [b'{"resourceMetrics":[]}'],
    "tombstones": [None] * 2,
    "undecodable": [
        b"no bundle",
        metrics(UNCOUNTED),
        metrics(f'{{"name":"e","gauge":{{"dataPoints":[]}}}},{UNCOUNTED}'),
        metrics(",".join([GAUGE, *[UNCOUNTED] * 1_001])),  # more parts than a letter may name
    ],
}
SUMS = {name: len(each) for name, each in RECORDS.items()} | {
    "records": 11,
    "points": 16,
    "rows": 8,
    "skipped": 4,
    "dropped": 0,
    "rejected": 4,
}
SAID = (
    "records: 11 = 4 understood + 1 empty + 2 tombstones + 4 undecodable",
    "points of understood records: 16 = 8 rows + 4 skipped + 4 rejected",
)


async def call(*args):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lmstream", *map(str, args)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def ran(tmp_path):
    """What a run says at its end, as text and for machines, and the arguments of `verify`."""
    async with KafkaLab() as lab:
        await lab.create_topic("lm", 1)
        producer = AIOKafkaProducer(bootstrap_servers=lab.bootstrap)
        await producer.start()
        for value in [value for each in RECORDS.values() for value in each]:
            await producer.send_and_wait("lm", value, key=b"k", partition=0)
        await producer.stop()
        where = ["--bootstrap", lab.bootstrap, "--topic", "lm", "--group", "g", "--org", "acme"]
        where += ["--landed", tmp_path / "landed", "--dead-letters", tmp_path / "dead"]
        quick = ("source.session_timeout_ms=3000", "source.heartbeat_interval_ms=300", "sink.window_seconds=0.2")
        command = ["run", *where, "--json", *(part for each in quick for part in ("--set", each))]
        run = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lmstream", *map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENV,
        )
        until, total = time.monotonic() + 40, {}
        while time.monotonic() < until and total.get("bundles") != len(
            [value for each in RECORDS.values() for value in each]
        ):
            await asyncio.sleep(0.3)
            if (tmp_path / "landed").is_dir() and (tmp_path / "dead").is_dir():
                _, out, _ = await call("verify", *where, "--json")
                total = json.loads(out)["total"] if out else {}
        run.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            out, err = await run.communicate()
        assert run.returncode == 0, err.decode()
        yield json.loads(out), err.decode().splitlines(), where


@pytest.mark.slow
async def test_run_dlq_stats_and_verify_say_the_same_of_one_input(ran, tmp_path):
    counts, said, where = ran
    code, out, err = await call("verify", *where, "--json")
    assert code == 0, err
    report = json.loads(out)
    code, out, _ = await call("dlq", "stats", tmp_path / "dead", "--json")
    stats = json.loads(out)

    assert counts["sums"] == report["sums"] == SUMS
    assert (counts["rows"], counts["rows_in_flight"], report["total"]["landed"]) == (8, 0, 8)
    assert counts["dead_letters"] == stats["dead_letters"] == stats["letters"] == report["total"]["dead_letters"] == 8
    assert counts["undecodable"] == stats["undecodable"] == report["total"]["undecodable"] == 4
    assert counts["rejected"] == stats["rejected"] == {"value.missing": report["total"]["rejected"]}
    assert counts["parts_undecodable"] == stats["parts_undecodable"] == 1
    assert (stats["understood"], stats["unjudged"]) == (4, 0)

    last = next(line for line in said if "rows/s" in line)
    assert "11 records, 8 rows delivered, 8 dead letters" in last
    assert last.endswith("; ".join(["0 rows in flight", *SAID]))
    page = tmp_path / "page.html"
    code, out, _ = await call("verify", *where, "--html", page)
    assert code == 0
    assert set(SAID) <= {*out.splitlines()}
    assert " dead_letters=8 letters_missing=0 " in out
    text = re.sub(r"<[^>]*>", "", page.read_text("utf-8"))
    assert "8 of 8 expected rows landed, 8 records are in dead letters (4 undecodable, with 4 points rejected)" in text
    assert all(f"{line[0].upper()}{line[1:]}." in text for line in SAID)
    code, out, _ = await call("dlq", "stats", tmp_path / "dead")
    assert out.splitlines()[-1] == (
        "8 dead letters: 4 records undecodable, 4 understood, rejected 4 value.missing, 1 parts undecodable"
    )
