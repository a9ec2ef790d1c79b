"""Nobody reads what a run says: it goes on, its exit code says what was settled, and a signal always reaches it."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from cli.test_signals import ENV, HUNG, Scene, busy
from lmstream.lab import KafkaLab
from lmstream.observability import unblocked

RUN = (sys.executable, "-m", "lmstream", "run")
GRACE = 1


@pytest.fixture
async def scene(tmp_path):
    async with KafkaLab() as lab, Scene(lab, tmp_path, "unread") as made:
        yield made


async def started(scene, stderr, *, sink="local", **more):
    """A run whose standard error is this file."""
    launch = asyncio.create_subprocess_exec

    async def with_it(*words, **options):
        return await launch(*words, **(options | {"stderr": stderr}))

    asyncio.create_subprocess_exec = with_it
    try:
        settings = {"runtime.grace": GRACE, "run.report_seconds": 0.05, **more}
        return await scene.run(sink, **settings)
    finally:
        asyncio.create_subprocess_exec = launch


async def left_after(process, number, seconds):
    process.send_signal(number)
    began = time.monotonic()
    code = await asyncio.wait_for(process.wait(), 60)
    assert time.monotonic() - began < seconds or busy()
    return code


@pytest.mark.parametrize(("kind", "form"), [("kafka", "auto"), ("kafka", "json"), ("confluent", "auto")])
async def test_a_reader_that_goes_away_ends_nothing(scene, kind, form):
    ours, theirs = os.pipe()
    await scene.publish(10)
    process = await started(scene, theirs, **{"logs.format": form, "source.type": kind})
    os.close(theirs)
    assert await asyncio.to_thread(os.read, ours, 1)
    os.close(ours)
    await scene.until(scene.all_committed)
    await scene.publish(10)
    await scene.until(scene.all_committed)
    assert await left_after(process, signal.SIGTERM, 25) == 0
    await scene.judge(duplicates=False)


async def test_a_reader_that_goes_away_makes_no_success_of_what_is_unsettled(scene):
    ours, theirs = os.pipe()
    await scene.publish(10)
    scene.hose.faults.extend(HUNG)
    process = await started(scene, theirs, sink="firehose")
    os.close(theirs)
    os.close(ours)
    await scene.until(lambda: scene.hose.counters.calls)
    assert await left_after(process, signal.SIGTERM, 20) == 75
    assert await scene.committed() == 0


@pytest.mark.parametrize(
    "terminal", [pytest.param(False, id="pipe"), pytest.param(True, id="terminal", marks=pytest.mark.slow)]
)
async def test_a_reader_that_has_stopped_reading_holds_up_nothing_and_signals_reach_the_run(scene, terminal):
    ours, theirs = pty.openpty() if terminal else os.pipe()
    await scene.publish(10)
    process = await started(scene, theirs, **{"run.report_seconds": 0.01})
    await scene.until(scene.all_committed)
    if not terminal:  # fill what the kernel holds, as an hour of lines would
        os.set_blocking(theirs, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(theirs, b"x" * 4096)
        os.set_blocking(theirs, True)
    await asyncio.sleep(1.5)
    await scene.publish(10)
    await scene.until(scene.all_committed)
    assert await left_after(process, signal.SIGTERM, 25) == 0
    os.close(theirs)
    os.close(ours)
    await scene.judge(duplicates=False)


@pytest.mark.slow
async def test_a_second_signal_and_the_last_resort_need_no_reader(scene):
    await scene.publish(10)
    scene.hose.faults.extend(HUNG)
    for twice in (True, False):
        ours, theirs = os.pipe()
        os.set_blocking(theirs, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(theirs, b"x" * 4096)
        os.set_blocking(theirs, True)
        calls = scene.hose.counters.calls
        process = await started(scene, theirs, sink="firehose", **{"runtime.grace": 20 if twice else GRACE})
        await scene.until(lambda seen=calls: scene.hose.counters.calls > seen)
        if twice:
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
        assert await left_after(process, signal.SIGTERM, 10) == (130 if twice else 75)
        os.close(ours)
        os.close(theirs)


NO_THREADS = """
import pathlib, threading
kept = threading.Thread.start
def start(self):
    if pathlib.Path({flag!r}).exists():
        raise RuntimeError("can't start new thread")
    kept(self)
threading.Thread.start = start
"""


async def test_a_signal_reaches_a_run_that_can_start_no_more_threads(scene):
    flag = scene.folder / "no-more-threads"
    (scene.folder / "sitecustomize.py").write_text(NO_THREADS.format(flag=str(flag)))
    await scene.publish(10)
    process = await started(scene, subprocess.DEVNULL, sink="firehose", **{"runtime.grace": 5})
    await scene.until(scene.all_committed)
    flag.touch()
    assert await left_after(process, signal.SIGTERM, 25) == 0
    flag.unlink()
    await scene.judge(duplicates=False)


def run_files(folder, *more, shell, **options):
    """A run over a folder of one bundle, by a shell that does something to its streams."""
    words = " ".join([*RUN, "--files", str(folder), "--org", "acme", "--landed", str(folder / "landed"), *more])
    return subprocess.run(
        ["/bin/bash", "-c", shell.format(words)],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENV,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    ("streams", "said"),
    [
        ("{} 2>&-", False),
        ("{} >&-", True),
        ("{} >&- 2>&-", False),
        ("{} <&- >&- 2>&-", False),
        ("{} --json >/dev/full", True),
        ("{} 2>/dev/full", False),
        ("{} --json | true; exit ${{PIPESTATUS[0]}}", True),
        ("{} 2>&1 >/dev/null | true; exit ${{PIPESTATUS[0]}}", False),
    ],
)
def test_the_exit_code_says_what_was_settled_whatever_happens_to_the_streams(tmp_path, bundles, streams, said):
    folder, _ = bundles(3)
    ended = run_files(folder, "--dead-letters", str(tmp_path / "dead"), shell=streams)
    assert ended.returncode == 0, ended.stderr
    assert ("rows delivered" in ended.stderr) == said
    assert "Traceback" not in ended.stderr
    assert list((folder / "landed").rglob("*.gz"))
    if "full" not in streams:
        return
    (folder / "bad.json").write_text("junk")
    ended = run_files(folder, "--strict", "--dead-letters", str(tmp_path / "dead"), shell=streams)
    assert ended.returncode == 4, ended.stderr


def test_rows_for_a_standard_output_that_is_closed_are_not_called_delivered(tmp_path, bundles):
    folder, _ = bundles(3)
    words = [
        *RUN,
        "--files",
        str(folder),
        "--org",
        "acme",
        "--sink",
        "stdout",
        "--dead-letters",
        str(tmp_path / "dead"),
    ]
    ended = subprocess.run(
        ["/bin/bash", "-c", " ".join(words) + " >&-"], capture_output=True, text=True, timeout=120, env=ENV, check=False
    )
    assert ended.returncode not in {0, 4}
    assert "rows delivered" not in ended.stderr or " 0 rows delivered" in ended.stderr


def test_a_reader_that_goes_away_from_a_verb_that_only_prints_is_no_error():
    words = f"{sys.executable} -m lmstream telemetry prometheus | head -1; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["/bin/bash", "-c", words], capture_output=True, text=True, timeout=60, env=ENV, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_broken_pipe_of_something_else_is_no_reader_that_went_away(monkeypatch, cli):
    def broken(*_, **__):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("lmstream.cli.run.carried_out", broken)
    said = cli("run", "--files", "-", "--org", "a", "--landed", "y")
    assert said.code == 1
    assert "Broken pipe" in said.err


def opened(descriptor):
    return os.fdopen(descriptor, "w", closefd=True)


def test_lines_that_nobody_takes_are_dropped_within_a_bound_counted_and_told_of():
    ours, theirs = os.pipe()
    before = unblocked.dropped()
    with opened(theirs) as stream:
        made = unblocked.Unblocked(stream)
        line = json.dumps({"event": "x" * 1000}) + "\n"
        began = time.monotonic()
        for _ in range(5000):
            made.write(line)
        made.flush()
        assert time.monotonic() - began < 5
        assert made._held <= unblocked.HELD
        missed = unblocked.dropped() - before
        assert 3000 < missed < 5000
        taken = b""
        os.set_blocking(ours, False)
        until = time.monotonic() + 20
        while not (b"were dropped" in taken and taken.endswith(b"\n")) and time.monotonic() < until:
            try:
                taken += os.read(ours, 65536)
            except BlockingIOError:
                time.sleep(0.01)
        lines = [json.loads(each) for each in taken.splitlines()]  # whole lines, in the form of the others
        assert f"{missed:,} lines were dropped" in "".join(each["event"] for each in lines if each.get("level"))
        made.drain()
    os.close(ours)


def test_without_a_thread_lines_are_dropped_and_nothing_fails(monkeypatch):
    def none(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", none)
    ours, theirs = os.pipe()
    before = unblocked.dropped()
    with opened(theirs) as stream:
        made = unblocked.Unblocked(stream)
        made.write("a\nb\n")
        made.drain(0.1)
    assert unblocked.dropped() - before == 2
    os.close(ours)
