"""`verify --topic` on a topic that goes on: on live traffic, and after retention took its beginning, what Firehose landed well is
verified."""

import asyncio
import gzip
import json
import signal

import pytest

from apache_kafka.test_end_to_end import call, connection, start
from lmstream import Settings
from lmstream.lab import FirehoseLab, StreamConfig


@pytest.fixture
async def hose(tmp_path):
    (tmp_path / "landed").mkdir()
    stream = StreamConfig.for_settings("rows", Settings(org_id="acme"), speed_up=60.0)
    async with FirehoseLab(stream, tmp_path / "landed") as hose:
        yield hose


async def test_a_healthy_folder_is_verified_on_live_traffic_and_after_retention(cluster, topic, module, hose, tmp_path):
    landed, dead = tmp_path / "landed", tmp_path / "dead"
    dead.mkdir()
    await cluster.create_topic(topic, 3)
    common = [*connection(cluster), "--topic", topic]
    ours = ["--org", "acme", "--group", topic, "--dead-letters", dead]
    where = [*ours, "--landed", landed, "--settle", 5]
    quick = [f"--set=source.{name}={value}" for name, value in cluster.group.items()]
    quick += ["--set=runtime.commit_interval=0.2"]
    stream = ["--stream", "rows", "--region", "us-east-1", "--endpoint-url", hose.endpoint_url]
    run = await start("run", *common, "--source", module.__name__.rpartition(".")[2], *ours, *stream, *quick)
    said = asyncio.create_task(run.communicate())
    log = ["--count", 1500, "--rate", 60, "--chaos", 0.02, "--poison", 0.02, "--start", 1_764_000_000_000]
    publishing = asyncio.create_task(call("publish", "--yes", *common, *log))
    verdicts = []
    try:
        while not publishing.done():
            code, out, err = await call("verify", *common, *where, "--json")
            if "has committed nothing" in err:
                continue
            verdicts.append((code, json.loads(out)["total"], err))
        assert publishing.result()[0] == 0, publishing.result()[2]
    finally:
        run.send_signal(signal.SIGTERM)
        async with asyncio.timeout(45):
            _, err = await said
    assert run.returncode == 0, err.decode()
    await hose.flush()
    assert {code for code, _, _ in verdicts} == {0}, verdicts
    assert any(found["in_flight"] or found["not_read"] for _, found, _ in verdicts)
    code, out, err = await call("verify", *common, *where, "--json")
    assert code == 0, err
    whole = json.loads(out)["total"]
    assert whole["bundles"] == 1500
    assert whole["outside"] == whole["phantom"] == 0

    # Event time is that of the polls, a year ago: before what the topic still has, so that no row is unexpected.
    for partition in range(3):
        await cluster.delete_before(topic, partition, 100)
    code, out, err = await call("verify", *common, *where, "--json")
    assert code == 0, out + err
    kept = json.loads(out)["total"]
    assert (kept["bundles"], kept["landed"] + kept["outside"]) == (1200, whole["landed"])
    assert kept["outside"] > 0
    code, _, err = await call("verify", *common, *where, "--from", "0=50")
    assert code == 2
    assert "begins at 100 today" in err

    # And a row that is gone from what the topic still has is lost.
    taken = max(landed.rglob("*.gz"), key=lambda path: path.stat().st_mtime_ns)
    rows = gzip.decompress(taken.read_bytes()).count(b"\n")
    taken.unlink()
    code, out, err = await call("verify", *common, *where, "--json")
    assert code == 3, out + err
    assert json.loads(out)["total"]["lost"] == rows
