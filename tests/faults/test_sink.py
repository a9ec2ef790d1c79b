"""A whole run against a Firehose that fails in every way it can: nothing is lost, nothing is made up."""

import asyncio
import json
import random
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmstream.delivery import DeliveryPolicy, process
from lmstream.interfaces import Batch
from lmstream.lab import Fault, Quota
from lmstream.lab.generator import HOSTILE_NAMES
from lmstream.model import Record, Status
from lmstream.sinks.firehose import LIMITS
from support.checking import AWS, TOPIC, LogSource, Scene, seed_of
from support.wait import until


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def scene(tmp_path):
    async with Scene(tmp_path) as made:
        yield made


class Plan(deque):
    """A plan of faults without end: each call asks."""

    def __init__(self, ask):
        super().__init__([Fault()])  # never empty
        self._ask = ask

    def popleft(self):
        return self._ask()


def always(fault):
    return Plan(lambda: fault)


def small_packs(sink, rows=4, packs=8):
    """Several packs in a request, so that a part of it can fail."""
    sink.limits = msgspec.structs.replace(LIMITS, pack_rows=rows, request_packs=packs)
    return sink


def dead_letters(scene):
    return list(scene.dead.rglob("*.json"))


FED = Fault(
    status=400,
    code="InvalidArgumentException",
    message="This operation is not permitted on KinesisStreamAsSource delivery stream type.",
)


OTHERS = [pytest.param(fault, marks=pytest.mark.slow) for fault in (Fault.missing(), Fault.kms(), FED)]


@pytest.mark.parametrize("fault", [Fault.denied(), *OTHERS], ids=lambda f: f.code)
async def test_a_wrong_configuration_pauses_alarms_keeps_the_data_and_recovers_when_mended(scene, fault):
    source, seen = LogSource(scene.records(300)), []
    scene.hose.faults = always(fault)
    runtime = scene.runtime(source, on_progress=seen.append, budget=50_000)
    running = asyncio.create_task(runtime.run())
    await until(lambda: seen and seen[-1].fatal, 30, "the alarm")
    left, polls = source.left, source.polls
    assert left > 0
    await until(lambda: source.polls > polls + 5, 30, "polls that keep the membership")
    assert source.left == left  # paused
    assert seen[-1].fatal.code == fault.code
    assert not dead_letters(scene)
    assert source.committed == {}
    scene.hose.faults = deque()
    summary = await asyncio.wait_for(running, 90)
    assert (summary.fatal, summary.unacked) == (None, 0)
    await scene.judge()


MASKS = st.lists(st.lists(st.booleans(), min_size=1, max_size=8), max_size=12)


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(MASKS, st.integers(0, 2**32 - 1))
def test_any_records_of_any_requests_fail_and_only_those_are_sent_again(masks, seed):
    async def main(folder):
        async with Scene(Path(folder)) as scene:
            scene.hose.faults.extend(Fault(fail=tuple(n for n, failed in enumerate(mask) if failed)) for mask in masks)
            sink = small_packs(scene.sink())
            summary = await scene.runtime(LogSource(scene.records(12, seed=seed)), sink=sink, seed=seed).run()
            assert summary.retried_packs == scene.hose.counters.failed_records
            await scene.judge()  # not one duplicate

    with TemporaryDirectory() as folder:
        asyncio.run(main(folder))


async def test_a_third_of_everything_fails_again_and_again(scene):
    draw = random.Random(seed_of())
    scene.hose.faults = Plan(lambda: Fault.some(0.33, draw.randrange(10**9)))
    runtime = scene.runtime(LogSource(scene.records(200)), sink=small_packs(scene.sink()))
    summary = await asyncio.wait_for(runtime.run(), 120)
    assert summary.retried_packs == scene.hose.counters.failed_records > 100
    await scene.judge()


ODD = {
    "html": Fault.html(),
    "nothing": Fault(body=b""),
    "null": Fault(body=b"null"),
    "list": Fault(body=b"[]"),
    "object": Fault(body=b"{}"),
    "no answers": Fault(body=b'{"FailedPutCount":0}'),
    "too few answers": Fault(body=b'{"FailedPutCount":0,"RequestResponses":[]}'),
    "a count that is text": Fault(body=b'{"FailedPutCount":"0","RequestResponses":[{"RecordId":"1"}]}'),
    "truncated": Fault(body=b'{"FailedPutCount":0,"RequestRes'),
}


@pytest.mark.parametrize("fault", ODD.values(), ids=ODD.keys())
async def test_a_200_that_is_no_answer_delivers_nothing_and_is_sent_again(scene, fault):
    scene.hose.faults.extend([fault] * 3)
    summary = await asyncio.wait_for(scene.runtime(LogSource(scene.records(20))).run(), 90)
    assert summary.unknown_outcomes >= 1
    assert summary.unacked == 0
    await scene.judge()


async def test_short_answers_resets_and_hangs_after_acceptance_make_duplicates_and_lose_nothing(scene):
    draw = random.Random(seed_of())
    kinds = [
        Fault.short_answer(),
        Fault.accept_then_reset(),
        Fault.reset(),
        Fault.html(),
        Fault.slow(1.0),  # longer than the call may take: taken although nobody waits any more
        Fault.server_error(),
        Fault.expired(),
    ]
    plan = kinds + [draw.choice(kinds) for _ in range(8)]
    draw.shuffle(plan)
    scene.hose.faults.extend(plan)
    sink = small_packs(scene.sink(call_timeout=0.4, read_timeout=0.3))
    summary = await asyncio.wait_for(scene.runtime(LogSource(scene.records(80)), sink=sink).run(), 60)
    assert summary.unknown_outcomes >= 3
    report = await scene.judge(duplicates=True)
    assert report.total.duplicate > 0


async def test_under_throttling_concurrency_falls_memory_is_flat_and_everything_recovers(scene):
    draw = random.Random(seed_of())
    scene.hose.faults = Plan(lambda: Fault.unavailable() if draw.random() < 0.9 else Fault())
    budget, widths, held = 400_000, [], []
    source = LogSource(scene.records(600))
    sink = small_packs(scene.sink(), rows=50, packs=4)
    runtime = scene.runtime(source, sink=sink, budget=budget)
    pipeline = runtime.pipeline

    def look(progress):
        widths.append(pipeline.snapshot().concurrency)
        held.append(progress.in_flight_bytes)

    runtime._on_progress = look
    running = asyncio.create_task(runtime.run())
    await until(lambda: pipeline.snapshot().concurrency == 1, 60, "one request at a time")
    before = scene.hose.counters.records
    await asyncio.sleep(2)
    assert source.left > 0
    assert scene.hose.counters.records > before  # slowly, but on and on
    largest = 30_000  # one record and its lines may pass the budget
    assert max(held) <= budget + largest
    scene.hose.faults = deque()
    await until(lambda: pipeline.snapshot().concurrency > 1 or running.done(), 30, "more requests at a time")
    summary = await asyncio.wait_for(running, 90)
    print(f"throttled {pipeline.counts.throttled} requests, widths {min(widths)}..{max(widths)}, held {max(held)}")
    assert summary.unacked == 0
    await scene.judge()


@pytest.mark.slow
async def test_a_quota_is_used_although_most_of_what_is_tried_is_throttled(scene):
    """A token bucket, as the service's: what it allows is what is delivered, within a fifth."""
    rate, burst, seconds = 20.0, 5.0, 8.0
    loop = asyncio.get_running_loop()
    tokens, at, allowed = burst, loop.time(), 0

    def bucket():
        nonlocal tokens, at, allowed
        now = loop.time()
        tokens, at = min(burst, tokens + rate * (now - at)), now
        if tokens < 1:
            return Fault.unavailable()
        tokens -= 1
        allowed += 1
        return Fault()

    scene.hose.faults = Plan(bucket)
    source = LogSource(scene.records(1200))
    runtime = scene.runtime(source, sink=small_packs(scene.sink(), rows=50, packs=1), budget=400_000)
    running = asyncio.create_task(runtime.run())
    await until(lambda: runtime.pipeline.counts.throttled, 20, "the quota is reached")
    before, began = allowed, loop.time()
    await asyncio.sleep(seconds)
    share = (allowed - before) / (rate * (loop.time() - began))
    refused = runtime.pipeline.counts.throttled
    print(f"{share:.0%} of what the quota allows; {refused} requests were throttled")
    assert source.left > 0
    assert share >= 0.8
    scene.hose.faults = deque()
    await asyncio.wait_for(running, 60)
    await scene.judge()


@pytest.mark.slow
async def test_four_fifths_of_the_quota_are_used_in_a_throttling_storm_and_soon_after_it(scene):
    """Bytes a second, as the service counts: a tenth of what the stream took before, and then all of it again."""
    storm, full = Quota(100_000, 16), Quota(1_000_000, 160)
    loop = asyncio.get_running_loop()
    scene.hose.quota = storm
    source = LogSource(scene.records(3500))
    runtime = scene.runtime(source, sink=small_packs(scene.sink(), rows=50, packs=8), budget=4_000_000)
    pipeline = runtime.pipeline
    running = asyncio.create_task(runtime.run())
    await until(lambda: pipeline.counts.throttled, 20, "the quota is reached")
    before, began = storm.allowed, loop.time()
    await asyncio.sleep(12)
    share = (storm.allowed - before) / (storm.bytes * (loop.time() - began))
    width = pipeline.snapshot().concurrency
    scene.hose.quota, began, recovered = full, loop.time(), None
    seen = deque([(began, 0)])
    while recovered is None and loop.time() < began + 30:
        await asyncio.sleep(0.25)
        seen.append((loop.time(), full.allowed))
        while seen[-1][0] - seen[0][0] > 2.3:
            seen.popleft()
        passed = seen[-1][0] - seen[0][0]
        if passed >= 2 and (seen[-1][1] - seen[0][1]) / passed >= 0.8 * full.bytes:
            recovered = loop.time() - began
    told = f"{share:.0%} of the storm's quota at {width} requests at a time; recovered after {recovered} s"
    print(f"{told}; {pipeline.counts.throttled} requests were throttled")
    assert source.left > 0
    assert share >= 0.8
    assert recovered is not None, told
    scene.hose.quota = None
    await asyncio.wait_for(running, 60)
    await scene.judge()


@pytest.mark.slow
async def test_an_outage_is_asked_about_once_a_second_and_not_once_for_every_pack(scene):
    scene.hose.outage = True
    sink = small_packs(scene.sink(), rows=20, packs=1)
    runtime = scene.runtime(LogSource(scene.records(400)), sink=sink, delivery=DeliveryPolicy())
    running = asyncio.create_task(runtime.run())
    counters = scene.hose.counters
    await until(lambda: counters.calls >= 12, 20, "the first tries")
    await asyncio.sleep(1)
    before = counters.calls
    await asyncio.sleep(4)
    tried = counters.calls - before
    print(f"{tried} requests in 4 s with {runtime.progress().unacked} records in flight")
    assert 2 <= tried <= 16
    scene.hose.outage = False
    began = asyncio.get_running_loop().time()
    await asyncio.wait_for(running, 60)
    print(f"all delivered {asyncio.get_running_loop().time() - began:.1f} s after the outage")
    await scene.judge()


@pytest.mark.parametrize(
    "fault", [Fault.slow(30), Fault.server_error(), Fault.denied()], ids=["hang", "down", "denied"]
)
async def test_a_host_that_is_called_has_its_answer_before_its_deadline_and_acknowledges_nothing(scene, fault):
    records = scene.records(20)
    scene.hose.faults = always(fault)
    policy = DeliveryPolicy(timeout=0.3, backoff_base=0.02, backoff_max=0.2)
    pipeline = scene.runtime(LogSource([]), sink=scene.sink(call_timeout=0.2), delivery=policy).pipeline
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 1.5
    outcome = await process(pipeline, Batch(records), deadline)
    assert loop.time() < deadline
    pending = [status is Status.PENDING for status in outcome.statuses]
    assert all(pending)
    assert outcome.failures
    scene.hose.faults = deque()
    outcome = await process(pipeline, Batch(records), loop.time() + 20)
    assert outcome.complete
    await pipeline.close()
    await scene.judge(duplicates=fault.latency > 0)


def bulky(number, rows, size):
    """A bundle of `rows` points with an attribute of `size` characters each."""
    points = [
        {
            "timeUnixNano": str((1_715_263_558_360 + n) * 10**6),
            "asDouble": n,
            "attributes": [{"key": "a", "value": {"stringValue": "x" * size}}],
        }
        for n in range(rows)
    ]
    message = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": points}}]}]}]}
    return Record(
        topic=TOPIC, partition=9, offset=number, timestamp=1_700_000_000_000, value=json.dumps(message).encode()
    )


async def test_no_request_passes_a_limit_of_the_service(scene):
    draw = random.Random(seed_of())
    shapes = [(3000, 0), (501, 10), (1100, 900), (12, 300_000), (3, 900_000), (40, 24_000)]
    shapes += [(draw.randrange(1, 400), draw.randrange(0, 15_000)) for _ in range(8)]
    log = [bulky(number, rows, size) for number, (rows, size) in enumerate(shapes)]
    log += scene.records(20, instances=150, chaos=0.02)
    summary = await asyncio.wait_for(scene.runtime(LogSource(log, step=4), delivery=DeliveryPolicy()).run(), 60)
    assert scene.hose.counters.refused_calls == 0  # the strict lab refuses what is too large
    assert scene.hose.counters.failed_records == 0
    assert summary.retried_packs == 0
    assert summary.rows == scene.rows_expected + sum(rows for rows, _ in shapes)
    assert await scene.landed() == summary.rows
    scene.traces[0].judge()


async def test_hostile_names_stay_inside_the_root_and_on_their_line(scene, tmp_path, caplog):
    records = scene.records(40, chaos=0.6, poison=0.1, seed=seed_of())
    names = [
        *HOSTILE_NAMES,
        *("..", ".", "/", "//", "%2e%2e%2f", "CON", "-rf", "a=b", "a\tb", "\u202egnp", "p_org=x/", "~", "$(id)"),
    ]
    around = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    metrics = [
        {"name": name, "gauge": {"dataPoints": [{"timeUnixNano": "1715263558360000000", "asInt": "1"}]}}
        for name in names
    ]
    value = json.dumps(
        {"resourceMetrics": [{"scopeMetrics": [{"scope": {"name": n}, "metrics": metrics} for n in names]}]}
    )
    records.append(Record(topic="../../evil", partition=7, offset=0, timestamp=1, value=value.encode()))
    summary = await asyncio.wait_for(scene.runtime(LogSource(records)).run(), 60)
    assert await scene.landed() == summary.rows == scene.rows_expected + len(names) ** 2
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    roots = (scene.store.root / "acme", scene.dead)
    assert all(any(root in path.parents for root in roots) for path in files), files
    assert all(path.resolve().is_relative_to(tmp_path.resolve()) for path in files)
    assert {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents} == around
    folders = {path.relative_to(scene.store.root).parts[1] for path in files if roots[0] in path.parents}
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") for name in folders
    )
    assert all("\n" not in record.getMessage() for record in caplog.records)
