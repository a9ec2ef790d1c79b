"""`verify --watch` as a service, against a broker: what is proved is on its endpoints, and a restart continues."""

import asyncio
import contextlib
import gzip
import json
import signal
import socket
import subprocess
import sys
import time

import aiohttp
import pytest

from support.verdict_scene import ENV, Scene, lines_of


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.asynccontextmanager
async def watching(scene, *flags, landed=None):
    """A service that proves; how to ask it, and the process."""
    port, landed = free_port(), landed or scene.landed
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lmstream", "verify", "--topic", "lm", "--config", str(scene.config)),
        *("--landed", str(landed), "--watch", "1", "--address", f"127.0.0.1:{port}", *map(str, flags)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENV,
        cwd=scene.folder,
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield process, session
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def metrics(session):
    async with session.get("/metrics") as answer:
        text = await answer.text()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


async def until(session, name, value, seconds=30):
    """Ask until a metric has a value; all of them then."""
    end, found = time.monotonic() + seconds, {}
    while time.monotonic() < end:
        with contextlib.suppress(aiohttp.ClientError):
            found = await metrics(session)
            if found.get(name) == value:
                return found
        await asyncio.sleep(0.1)
    raise AssertionError((name, value, found))


PART = '{partition="0",topic="lm"}'


@pytest.mark.slow
async def test_what_is_proved_is_told_and_a_loss_is_until_it_is_repaired(tmp_path):
    async with Scene(tmp_path, count=8, bad=(2,)) as scene:
        await scene.deliver()
        await scene.commit()
        state = tmp_path / "proof.json"
        async with watching(scene, "--state", state) as (process, session):
            found = await until(session, f"lmstream_offset_proved{PART}", 8)
            assert found[f"lmstream_rows_unproved{PART}"] == 0
            assert abs(found[f"lmstream_proved_until_timestamp_seconds{PART}"] - time.time()) < 30, "nothing waits"
            async with session.get("/healthz") as answer:
                assert (answer.status, "proved up to 20" in await answer.text()) == (200, True)

            # More records are committed, and one object of theirs is not there.
            before = set(scene.objects)
            await scene.publish(4)
            await scene.call("run", "--offsets", "lm/0=8..12", code=0)
            gone = min(set(scene.objects) - before)
            rows = len(lines_of(gone))
            gone.unlink()
            await scene.commit()
            found = await until(session, f"lmstream_rows_unproved{PART}", rows)
            first = int(found[f"lmstream_offset_proved{PART}"])
            assert 8 <= first < 12
            assert found[f"lmstream_proved_until_timestamp_seconds{PART}"] == scene.records[first].timestamp / 1000

            places = ("--landed", scene.landed, "--dead-letters", scene.dead)
            await scene.call("verify", "--topic", "lm", *places, "--repair", "--yes", code=0)
            await until(session, f"lmstream_rows_unproved{PART}", 0)
            await until(session, f"lmstream_offset_proved{PART}", 12)
            async with session.get("/statusz") as answer:
                told = await answer.json()
            assert told["partitions"][0]["proved_offset"] == 12
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                _, said = await process.communicate()
            assert process.returncode == 0, said
            assert f"lm/0/{first}: rows are lost or changed (LMS-5001)".encode() in said
        kept = json.loads(state.read_bytes())
        assert (kept["group"], kept["partitions"]["lm/0"]["position"]) == ("g", 12)

        # What the state says is proved is not looked at again: what was removed since is not missed.
        gone = scene.objects[0]
        gone.unlink()
        async with watching(scene, "--state", state) as (_, session):
            found = await until(session, f"lmstream_offset_proved{PART}", 12)
            assert found[f"lmstream_rows_unproved{PART}"] == 0
        async with watching(scene, "--from", "0=11") as (_, session):
            assert (await until(session, f"lmstream_offset_proved{PART}", 12))[f"lmstream_rows_unproved{PART}"] >= 0


async def test_the_rows_of_a_lake_are_proved_too(tmp_path):
    async with Scene(tmp_path, sink="lake") as scene:
        await scene.deliver()
        await scene.commit()
        gone = scene.lake_objects[0]
        data = scene.bucket.pop(gone)
        flags = ("--s3-endpoint-url", scene.s3.endpoint_url)
        async with watching(scene, *flags, landed="s3://lake") as (_, session):
            rows = gzip.decompress(data.data).count(b"\n")
            await until(session, f"lmstream_rows_unproved{PART}", rows)
            scene.bucket[gone] = data
            found = await until(session, f"lmstream_offset_proved{PART}", 12)
            assert found[f"lmstream_rows_unproved{PART}"] == 0


@pytest.mark.slow
async def test_the_chains_of_a_lake_are_proved_and_a_restart_walks_on(tmp_path):
    faults = "lmstream_lake_faults"
    async with Scene(tmp_path, sink="lake") as scene:
        await scene.deliver()
        await scene.commit()
        state = tmp_path / "proof.json"
        flags = ("--s3-endpoint-url", scene.s3.endpoint_url, "--state", state)
        async with watching(scene, *flags, landed="s3://lake") as (process, session):
            await until(session, f"lmstream_offset_proved{PART}", 12)
            found = await until(session, faults, 0)
            assert abs(found[f"lmstream_proved_until_timestamp_seconds{PART}"] - time.time()) < 30
            # All rows are there as they must be: only the claims say that this is one object too many.
            stranger = scene.lake_objects[0].replace("/lm-", "/xx-", 1)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                await process.communicate()
            assert process.returncode == 0
        kept = json.loads(state.read_bytes())["chains"]
        assert kept["until"] > 0
        assert kept["begin"]

        scene.bucket[stranger] = scene.bucket[scene.lake_objects[0]]
        kept["listed"] = 0
        state.write_text(json.dumps(json.loads(state.read_bytes()) | {"chains": kept}))
        async with watching(scene, *flags, landed="s3://lake") as (process, session):
            found = await until(session, faults, 1 + gzip.decompress(scene.bucket[stranger].data).count(b"\n"))
            assert found[f"lmstream_rows_unproved{PART}"] == 0
            assert found[f"lmstream_proved_until_timestamp_seconds{PART}"] == kept["until"], "held until it is right"
            del scene.bucket[stranger]
            found = await until(session, faults, 0)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                _, said = await process.communicate()
            assert process.returncode == 0
            assert f"{stranger}: ".encode() in said
            assert b"of records that landed (LMS-5001)" in said


def test_what_does_not_go_with_watch_is_refused(cli, tmp_path):
    common = ["verify", "--landed", tmp_path, "--bootstrap", "127.0.0.1:1", "--org", "a", "--topic", "lm", "--watch"]
    said = cli(*common, "5", "--group", "g", "--to", "0=4", "--no-wait")
    assert (said.code, "leave out --to, --no-wait" in said.err) == (2, True), said.err
    (tmp_path / "s").write_text('{"group":"g","partitions":{}}')
    said = cli(*common, "5", "--group", "h", "--state", tmp_path / "s")
    assert (said.code, "it is of group g, and the configuration has h" in said.err) == (2, True), said.err
    said = cli(*common, "0.1", "--group", "g")
    assert (said.code, "1 or more" in said.err) == (2, True), said.err
