"""The live view and its lines: what a run waits for, and several workers as one run with one sum."""

import asyncio
import io
import os
import pty
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lmstream.abilities import Health
from lmstream.cli.standing import Standing, added, packed, summed, unpacked
from lmstream.cli.status import Reporter
from lmstream.delivery import Counts, Snapshot, Sums
from lmstream.delivery.latency_histogram import LatencyHistogram
from lmstream.lab import KafkaLab
from lmstream.model import Failure, Kind
from lmstream.observability.waits_for import waits_for
from lmstream.runtime import Progress, RunSnapshot
from support.kafka_scenarios import produce

MIB = 1 << 20
DOWN = Failure(Kind.RETRYABLE, "ServiceUnavailable", "slow down")
DENIED = Failure(Kind.FATAL_CONFIG, "LMS-4003", "denied")
PIPELINE = Snapshot(
    counts=Counts(), in_flight=0, in_flight_bytes=0, budget=64 * MIB, body_bytes=0, fatal=None, tripped=None,
    refusals={}, sink_trouble=None, concurrency=8, next_object=None, request_durations=LatencyHistogram(),
    letters_trouble=None, letters_waiting=0, oldest_letter="", waiting_records=0, waiting_hour="",
    partitions_active=0, partitions_quota=500, partitions_overflow=0, unknown={},
)  # fmt: skip
RUN = RunSnapshot(
    state="running", duration=1.0, silent=0.0, still=0.0, reading=True, commits=0, commit_failures=0, late=0, stale=0,
    pipeline=PIPELINE,
)  # fmt: skip


def told(*, state="running", health=None, room=1, **pipeline):
    run = msgspec.structs.replace(RUN, state=state, pipeline=msgspec.structs.replace(PIPELINE, **pipeline))
    runtime = SimpleNamespace(snapshot=lambda: run, pipeline=SimpleNamespace(room=room))
    return waits_for(SimpleNamespace(runtime=runtime, health=health, group="acme-rows"))


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"state": "starting"}, "starting"),
        ({"health": Health(state="starting")}, "joining group acme-rows"),
        (
            {"health": Health(state="recreating", last_error="timed out")},
            "joining again group acme-rows: timed out",
        ),
        ({"health": Health(state="running", missing=("lm",))}, "waiting for topics that are not there: lm"),
        ({"next_object": 33.6, "in_flight": 9}, "gathering rows: the next object in 34 s at most"),
        ({"fatal": DENIED, "next_object": 3.0}, "paused by LMS-4003, until an operator acts"),
        ({"state": "draining", "in_flight": 1200}, "draining: 1,200 records in flight are settled first"),
        ({"sink_trouble": DOWN, "in_flight": 3}, "retrying the sink: ServiceUnavailable"),
        ({"letters_trouble": DOWN}, "waiting for dead letters to be written: ServiceUnavailable"),
        ({"room": 0, "in_flight_bytes": 63 * MIB}, "waiting for the sink: 63 of 64 MiB are in flight"),
        (
            {"waiting_records": 7, "waiting_hour": "2026-11-29T09"},
            "7 records from 2026-11-29T09 on wait for room among the stream's partitions",
        ),
        ({"in_flight": 3}, "delivering"),
        ({"health": Health(state="running")}, "waiting for records"),
    ],
)
def test_a_run_says_what_it_waits_for(seen, words):
    assert told(**seen) == words


def standing(name, text, **more):
    progress = Progress(records=3, rows=7, duration=12.0, sums=Sums(records=3, understood=3, points=7, rows=7))
    return Standing(progress=progress, workers={name: text}, **more)


def drawn(reporter, one, width=80):
    out = io.StringIO()
    Console(file=out, width=width).print(reporter.view(one))
    return out.getvalue()


def test_the_view_has_a_line_of_what_is_waited_for_and_breaks_no_count_from_its_name():
    odd = Progress(rejected={"value.missing": 110, "value.nan.of.a.long.name": 12}, skipped={"flags.no_value": 30_000})
    text = drawn(Reporter(1.0), Standing(progress=odd, workers={"": "joining group acme-rows"}))
    assert "state  joining group acme-rows" in text
    assert "110 value.missing" in text
    assert "30,000 flags.no_value" in text
    assert max(map(len, text.splitlines())) <= 80


def test_workers_are_one_view_with_the_sum_and_what_each_waits_for():
    three = [
        standing("worker 1", "delivering", partitions=2, lag=10, behind=1.0, budget=MIB, requests={"delivered": 2}),
        standing("worker 2", "gathering rows: the next object in 3 s at most", partitions=1, lag=None, behind=None),
        standing("worker 3", "delivering", partitions=1, lag=5, behind=9.0, warning="oldest", soon=True),
    ]
    total = summed([unpacked(packed(each)) for each in three])
    assert (total.lag, total.behind, total.partitions, total.soon) == (15, 9.0, 4, True)
    text = drawn(Reporter(1.0), total)
    assert "3 workers" in text
    assert "worker 1, worker 3: delivering" in text
    assert "worker 2: gathering rows" in text
    assert "15 records in 4 partitions   9.0 s behind" in text
    assert total.progress.sums.rows == total.progress.rows == 21
    line = Reporter(1.0)._line(total)
    assert "3 workers, 9 records, 21 rows" in line
    assert "lag 15 records, 9.0 s behind" in line


def test_a_lag_that_is_not_known_yet_is_said_and_ends_nothing():
    one = standing("", "joining group g", partitions=2, lag=None, behind=None)
    assert ", lag unknown, - behind" in Reporter(1.0)._line(one)
    assert "unknown in 2 partitions" in drawn(Reporter(1.0), one)


OPTIONAL = st.one_of(st.none(), st.integers(0, 9))


@given(
    st.builds(
        Standing,
        progress=st.builds(Progress, trouble=st.sampled_from([None, DOWN]), fatal=st.sampled_from([None, DENIED])),
        workers=st.dictionaries(st.sampled_from(["worker 1", "worker 2"]), st.text(max_size=20)),
        partitions=st.integers(0, 3),
        lag=OPTIONAL,
        behind=OPTIONAL,
        budget=st.integers(0, 9),
        warning=st.text(max_size=9),
    )
)
def test_whatever_stands_can_be_shown(one):
    assert Reporter(1.0)._line(one)
    assert drawn(Reporter(1.0), one)


COUNTS = st.dictionaries(st.sampled_from(["a.b", "c.d", "e.f"]), st.integers(0, 99))


@given(st.lists(st.builds(Progress, records=st.integers(0, 99), rows=st.integers(0, 99), skipped=COUNTS), max_size=5))
def test_the_sum_of_workers_is_that_of_their_counts(several):
    total = added(several)
    assert total.records == sum(each.records for each in several)
    assert total.rows == sum(each.rows for each in several)
    assert total.skipped == {
        name: sum(each.skipped.get(name, 0) for each in several) for each in several for name in each.skipped
    }


class Screen:
    """A verb on a terminal of 80 columns."""

    def __init__(self, *args, **more):
        self.shown = b""
        self._ours, theirs = pty.openpty()
        env = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "COLUMNS"}}
        env |= {"TERM": "xterm-256color", "LMSTREAM_ENDPOINTS__ADDRESS": "off"} | more
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lmstream", *map(str, args)],
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env,
        )  # fmt: skip
        os.close(theirs)
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def _read(self):
        try:
            self.shown += os.read(self._ours, 65536)
        except OSError:
            asyncio.get_running_loop().remove_reader(self._ours)

    @property
    def text(self):
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown.decode("utf-8", "replace"))

    async def until(self, *words):
        async with asyncio.timeout(60):
            while not all(each in self.text for each in words):
                assert self.process.poll() is None or all(each in self.text for each in words), self.text
                await asyncio.sleep(0.05)

    async def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(self.process.wait, 40)
        await asyncio.sleep(0.2)
        return code


BUNDLE = b"""{"resourceMetrics": [{"resource": {"attributes": [{"key": "hostId", "value": {"stringValue": "42"}}]},
"scopeMetrics": [{"scope": {"name": "CPU"}, "metrics": [{"name": "CpuUsage", "gauge": {"dataPoints": [
{"timeUnixNano": "1715263558360000000", "asDouble": 12.5}]}}]}]}]}"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_on_a_terminal_a_run_says_that_it_joins_and_gathers_and_workers_are_one_view(tmp_path, workers):
    async with KafkaLab() as kafka:
        await kafka.create_topic("lm", 2)
        for partition in range(2):
            await produce(kafka, "lm", [BUNDLE] * 3, partition=partition)
        places = ("--landed", tmp_path / "landed", "--dead-letters", tmp_path / "dead")
        quick = ("--set", "source.session_timeout_ms=3000", "--set", "source.heartbeat_interval_ms=300")
        screen = Screen(
            "run", "--bootstrap", kafka.bootstrap, "--topic", "lm", "--group", "g", "--org", "a", *places, *quick,
            *(("--workers", workers) if workers > 1 else ()),
        )  # fmt: skip
        try:
            await screen.until("joining group g")
            await screen.until("gathering rows: the next object in", "6 records")
            assert "░░░" in screen.text, "the bar, in the characters that this terminal has"
            if workers > 1:
                assert "lmstream · 2 workers" in screen.text
        finally:
            code = await screen.end()
    assert code == 0, screen.text
    last = [line for line in screen.text.splitlines() if "done in" in line]
    assert f"{workers} workers: done in" in last[-1] if workers > 1 else last[-1].startswith("done in")
    assert "6 records" in last[-1]
    assert "6 accepted rows" in last[-1] or "6 rows" in last[-1], last


@pytest.mark.parametrize(("env", "redrawn"), [({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False)])
async def test_no_color_takes_away_colours_and_a_dumb_terminal_all_that_moves(tmp_path, env, redrawn):
    async with KafkaLab() as kafka:
        await kafka.create_topic("lm", 1)
        places = ("--landed", tmp_path / "landed", "--dead-letters", tmp_path / "dead")
        screen = Screen(
            "run", "--bootstrap", kafka.bootstrap, "--topic", "lm", "--group", "g", "--org", "a", *places,
            *("--set", "run.report_seconds=1"), **env,
        )  # fmt: skip
        try:
            await screen.until("joining group g", "stops cleanly" if redrawn else " s: ")
        finally:
            await screen.end()
    assert re.findall(rb"\x1b\[[0-9;]*m", screen.shown) == []
    assert (b"\x1b[" in screen.shown) is redrawn


async def test_off_a_terminal_workers_have_one_line_and_one_sum_with_lag(tmp_path):
    async with KafkaLab() as kafka:
        await kafka.create_topic("lm", 2)
        await produce(kafka, "lm", [BUNDLE] * 3)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lmstream", "run", "--bootstrap", kafka.bootstrap, "--topic", "lm", "--group", "g"),
            *("--org", "a", "--landed", str(tmp_path / "landed"), "--dead-letters", str(tmp_path / "dead")),
            *("--workers", "2", "--set", "run.report_seconds=1", "--set", "source.session_timeout_ms=3000"),
            *("--set", "source.heartbeat_interval_ms=300", "--set", "endpoints.address=off"),
            stderr=subprocess.PIPE,
        )
        lines = []
        async with asyncio.timeout(60):
            while not lines or "gathering rows" not in lines[-1] or ", lag" not in lines[-1]:
                lines.append((await process.stderr.readline()).decode())
                assert lines[-1], lines
        process.send_signal(signal.SIGTERM)
        _, rest = await asyncio.wait_for(process.communicate(), 40)
    assert re.match(r"\d+ s: 2 workers, 3 records, ", lines[-1])
    assert not any(re.match(r"worker \d: \d+ s: ", line) for line in lines)
    last = rest.decode().splitlines()[-1]
    assert last.startswith("2 workers: done in ")
    assert "3 records" in last
