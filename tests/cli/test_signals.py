"""`lmstream run` under signals, as a process of its own: what is acknowledged is committed, and nothing is ever lost."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
import time
from itertools import islice

import pytest

from lmstream.kafka.settings import Settings as KafkaSettings
from lmstream.lab import Fault, FirehoseLab, KafkaLab, StreamConfig
from lmstream.lab.generator import Generator
from lmstream.lab.publisher import Publisher
from lmstream.settings import Settings
from lmstream.verification import log_entries, verify
from support.kafka_scenarios import committed

ENV = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTREAM_", "AWS_"))} | {
    "COLUMNS": "200",
    "AWS_ACCESS_KEY_ID": "lab",
    "AWS_SECRET_ACCESS_KEY": "lab",
    "AWS_EC2_METADATA_DISABLED": "true",
}
GROUP = {"session_timeout_ms": 2000, "heartbeat_interval_ms": 200, "rebalance_timeout_ms": 2000}
HUNG = [Fault.slow(120)] * 1000
CROWDED = 4.0
"""Seconds beyond the grace in which a process must have ended that is one of many at once on few cores."""
BUSY = 3 * (os.cpu_count() or 1)
"""Load above which a process waits seconds for its turn: how long it took says nothing then."""
SCENARIOS = []


def scenario(run):
    SCENARIOS.append(run)
    return run


class Scene:
    """One topic, where its rows go, and the processes that move them."""

    def __init__(self, lab, folder, topic):
        self.lab, self.topic, self.folder = lab, topic, folder / topic
        self.folder.mkdir()
        self.log, self.landed, self.dead = (self.folder / name for name in ("log.jsonl", "landed", "dead"))
        self.hose = FirehoseLab(
            StreamConfig.for_settings("rows", Settings(org_id="acme"), speed_up=1000), self.folder / "landed"
        )
        self.processes = []
        self.count = 0

    async def __aenter__(self):
        await self.hose.start()
        await self.lab.create_topic(self.topic)
        return self

    async def __aexit__(self, *_):
        for process in self.processes:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        self.hose.faults.clear()
        await self.hose.close()

    async def publish(self, count, rate=0.0):
        """Publish bundles, one in ten of them poison; what the broker acknowledges is expected."""
        settings = KafkaSettings(bootstrap=self.lab.bootstrap, topics=(self.topic,), group="lmstream")
        made = islice(Generator(seed=self.count + 1, instances=2, devices=5, poison=0.1).bundles(), count)
        with self.log.open("ab") as log:
            sender = Publisher(settings, log)
            await sender.send(made, rate=rate)
        assert sender.acknowledged == count
        self.count += count

    async def run(self, sink="local", **more):
        """Start a run."""
        hose = ["--stream", "rows", "--region", "us-east-1", "--endpoint-url", self.hose.endpoint_url]
        more = {
            "runtime.commit_interval": 0.1,
            **({"sink.window_seconds": 0.2} if sink == "local" else {}),
            "run.report_seconds": 0.5,
            **{f"source.{k}": v for k, v in GROUP.items()},
            **more,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lmstream", "run", "--bootstrap", self.lab.bootstrap, "--topic", self.topic),
            *("--group", self.topic, "--org", "acme", "--dead-letters", str(self.dead)),
            *({"local": ["--landed", str(self.landed)], "firehose": hose}.get(sink) or ["--sink", sink]),
            *(part for k, v in more.items() for part in ("--set", f"{k}={v}")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=ENV | {"PYTHONPATH": os.pathsep.join(filter(None, (str(self.folder), ENV.get("PYTHONPATH"))))},
        )
        self.processes.append(process)
        return process

    @property
    def objects(self):
        return len(list(self.landed.rglob("*.gz"))) if self.landed.is_dir() else 0

    async def committed(self):
        return await committed(self.lab, self.topic, self.topic) or 0

    async def until(self, condition, seconds=90):
        async with asyncio.timeout(seconds):
            while not (await condition() if asyncio.iscoroutinefunction(condition) else condition()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def all_committed(self):
        return await self.committed() == self.count

    async def judge(self, *, duplicates=True):
        """The checker's verdict on all that was published."""
        await self.hose.flush()
        report = verify(log_entries(self.log), self.landed, self.dead)
        total = report.total
        assert (total.lost, total.phantom, total.letters_missing, total.in_error_prefix) == (0, 0, 0, 0), report
        assert duplicates or total.duplicate == 0, report
        assert total.bundles == self.count
        return report

    async def to_the_end(self, sink="local"):
        """A second run brings home what the first one left, and stops when told."""
        self.hose.faults.clear()
        assert not await self.all_committed()
        again = await self.run(sink)
        await self.until(self.all_committed)
        code, said, _ = await ended(again, signal.SIGTERM)
        assert code == 0, said


def busy():
    return os.getloadavg()[0] > BUSY


async def ended(process, number, within=60.0):
    """(exit code, what it said, seconds it took) after this signal."""
    began = time.monotonic()
    process.send_signal(number)
    async with asyncio.timeout(within):
        _, said = await process.communicate()
    seconds = time.monotonic() - began
    print(f"{signal.Signals(number).name}: exit code {process.returncode} after {seconds:.2f} s")
    return process.returncode, said.decode(), seconds


async def line(process, text, within=90.0):
    """Read what it says up to a line with this text."""
    async with asyncio.timeout(within):
        while text.encode() not in (said := await process.stderr.readline()):
            assert said, f"it ended before it said {text!r}"


@pytest.mark.slow  # a process for each moment
async def test_what_signals_do_to_a_run(tmp_path):
    # Side by side on one broker: starting and joining take seconds of waiting, not of work.
    async def play(run):
        async with Scene(lab, tmp_path, run.__name__) as scene:
            await run(scene)

    async with KafkaLab() as lab:
        ran = await asyncio.gather(*(play(run) for run in SCENARIOS), return_exceptions=True)
    failed = [error for error in ran if error is not None]
    for error in failed:
        error.add_note(SCENARIOS[ran.index(error)].__name__)
    if failed:
        raise BaseExceptionGroup("scenarios that failed", failed)


@scenario
async def idle_it_stops_at_once(scene):
    await scene.publish(20)
    process = await scene.run()
    await scene.until(scene.all_committed)
    code, said, seconds = await ended(process, signal.SIGTERM)
    assert (code, "done in" in said) == (0, True), said
    assert seconds < 25 or busy()
    await scene.judge(duplicates=False)


@scenario
async def ctrl_c_is_as_clean_and_gathered_rows_are_flushed(scene):
    await scene.publish(20)
    process = await scene.run(**{"sink.window_seconds": 600, "run.report_seconds": 0.1})
    await line(process, "20 records")
    assert scene.objects == 0  # all of it is gathered, nothing is durable
    assert await scene.committed() == 0
    code, said, _ = await ended(process, signal.SIGINT)
    assert code == 0, said
    assert await scene.all_committed()
    await scene.judge(duplicates=False)


@scenario
async def verdicts_under_way_are_waited_for(scene):
    await scene.publish(20)
    scene.hose.faults.extend([Fault.slow(2.0)] * 100)
    process = await scene.run("firehose")
    await scene.until(lambda: scene.hose.counters.calls)
    code, said, seconds = await ended(process, signal.SIGTERM)
    assert code == 0, said
    assert seconds < 25 or busy()
    assert await scene.committed() == int(said.rpartition("done in")[2].split(": ")[1].split()[0])
    if not await scene.all_committed():  # what was not read before the signal
        await scene.to_the_end("firehose")
    await scene.judge(duplicates=False)


@scenario
async def a_second_signal_ends_it_at_once(scene):
    await scene.publish(10)
    scene.hose.faults.extend(HUNG)
    process = await scene.run("firehose")
    await scene.until(lambda: scene.hose.counters.calls)
    process.send_signal(signal.SIGTERM)
    await line(process, "interrupt again to exit at once")
    code, said, seconds = await ended(process, signal.SIGTERM)
    assert code == 130, said
    assert seconds < CROWDED or busy()
    assert await scene.committed() == 0
    await scene.to_the_end("firehose")
    await scene.judge()


@scenario
async def in_the_middle_of_a_rebalance_both_members_stop_in_time(scene):
    await scene.publish(10)
    scene.hose.faults.extend(HUNG)
    first = await scene.run("firehose", **{"runtime.grace": 2})
    await scene.until(lambda: scene.hose.counters.calls)
    second = await scene.run("firehose", **{"runtime.grace": 2})
    for _ in range(3):
        await line(second, "0 records")  # it joins, and waits for the first, which drains into a sink that hangs
    stops = [ended(process, signal.SIGTERM) for process in (first, second)]
    for process, (code, said, seconds) in zip((first, second), await asyncio.gather(*stops), strict=True):
        assert code == (75 if process is first else 0), said
        assert seconds < 2 + CROWDED or busy(), said
    assert await scene.committed() == 0
    await scene.to_the_end("firehose")
    await scene.judge()


STUCK = """
import asyncio, threading, msgspec
from lmstream.testing import Memory
class Settings(msgspec.Struct): ...
class make(Memory):
    def __init__(self, settings): super().__init__()
    async def write(self, packs): await asyncio.to_thread(threading.Event().wait)
"""


@scenario
async def a_thread_that_never_ends_does_not_keep_the_process(scene):
    (scene.folder / "stuck").mkdir()
    (scene.folder / "stuck" / "sink.py").write_text(STUCK)
    await scene.publish(5)
    process = await scene.run("stuck.sink", **{"runtime.grace": 1})
    await line(process, "5 records")
    code, said, seconds = await ended(process, signal.SIGTERM)
    assert code == 75, said
    assert "some parts did not close in time" in said
    assert seconds < 1 + 4 + CROWDED or busy(), said
    assert await scene.committed() == 0
    await scene.to_the_end()
    await scene.judge(duplicates=False)


@scenario
async def killed_before_its_first_commit(scene):
    await scene.publish(20)
    process = await scene.run(**{"runtime.commit_interval": 600})
    await scene.until(lambda: scene.objects)
    await ended(process, signal.SIGKILL)
    assert await scene.committed() == 0
    await scene.to_the_end()
    await scene.judge()


@scenario
async def killed_between_two_commits(scene):
    await scene.publish(20)
    process = await scene.run(**{"runtime.commit_interval": 3})
    await scene.until(scene.all_committed)
    before = scene.objects
    await scene.publish(20)
    await scene.until(lambda: scene.objects > before)
    await ended(process, signal.SIGKILL)
    assert await scene.committed() == 20
    await scene.to_the_end()
    await scene.judge()


@scenario
async def killed_while_it_stops(scene):
    await scene.publish(10)
    scene.hose.faults.extend([Fault(), *HUNG])
    process = await scene.run("firehose")
    await scene.until(lambda: scene.hose.counters.calls)
    await scene.publish(10)
    process.send_signal(signal.SIGTERM)
    await line(process, "stopping")
    await ended(process, signal.SIGKILL)
    await scene.to_the_end("firehose")
    await scene.judge()


@pytest.mark.slow
async def test_a_sink_that_hangs_costs_the_grace_and_no_row(tmp_path):
    async with KafkaLab() as lab, Scene(lab, tmp_path, "hangs") as scene:
        await hangs(scene)


async def hangs(scene):
    await scene.publish(10)
    process = await scene.run("firehose", **{"runtime.grace": 2})
    await scene.until(scene.all_committed)
    scene.hose.faults.extend(HUNG)
    before = scene.count
    await scene.publish(10)
    await scene.until(lambda: scene.hose.counters.calls > 1)
    code, said, seconds = await ended(process, signal.SIGTERM)
    assert code == 75, said
    assert "10 records were not settled in time; the next start" in said
    assert seconds >= 2
    assert seconds < 2 + 1 or busy(), said
    assert await scene.committed() == before  # all that was acknowledged, and nothing else
    await scene.to_the_end("firehose")
    await scene.judge()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
async def test_a_terminal_has_its_cursor_back_after_a_second_signal(bundles, tmp_path):
    folder, _ = bundles(3)
    config = StreamConfig.for_settings("rows", Settings(org_id="acme"))
    async with FirehoseLab(config, tmp_path / "landed") as hose:
        hose.faults.extend(HUNG)
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lmstream", "run", "--files", str(folder), "--org", "acme", "--stream", "rows"),
            *("--region", "us-east-1", "--endpoint-url", hose.endpoint_url, "--dead-letters", str(tmp_path / "dead")),
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            env=ENV | {"TERM": "xterm"},
        )
        os.close(theirs)
        shown = b""

        async def read_until(text):
            nonlocal shown
            async with asyncio.timeout(20):
                while text not in shown:
                    shown += await asyncio.to_thread(os.read, ours, 4096)

        try:
            await read_until(b"Ctrl-C stops cleanly")
            assert b"\x1b[?25l" in shown  # the live view hides the cursor
            process.send_signal(signal.SIGINT)
            await read_until(b"interrupt again to exit at once")
            process.send_signal(signal.SIGINT)
            await read_until(b"\x1b[?25h")
            async with asyncio.timeout(5):
                assert await process.wait() == 130
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            os.close(ours)
            hose.faults.clear()
