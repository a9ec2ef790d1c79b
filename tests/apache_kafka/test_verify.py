"""`verify --topic` on a topic that goes on: on live traffic, and after retention took its beginning, a healthy lake is verified."""

import asyncio
import gzip
import json
import signal

from apache_kafka.test_end_to_end import call, connection, start


async def test_a_healthy_lake_is_verified_on_live_traffic_and_after_retention(cluster, topic, module, tmp_path):
    landed, dead = tmp_path / "landed", tmp_path / "dead"
    landed.mkdir()
    dead.mkdir()
    await cluster.create_topic(topic, 3)
    common = [*connection(cluster), "--topic", topic]
    where = ["--org", "acme", "--group", topic, "--landed", landed, "--dead-letters", dead]
    quick = [f"--set=source.{name}={value}" for name, value in cluster.group.items()]
    quick += ["--set=sink.window_seconds=0.5", "--set=runtime.commit_interval=0.2"]
    run = await start("run", *common, "--source", module.__name__.rpartition(".")[2], *where, *quick)
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
    assert kept["bundles"] == 1200
    assert kept["landed"] + kept["outside"] == whole["landed"]
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
