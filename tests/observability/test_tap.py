"""The tap: rows of a run for who looks, off unless it is set, and never at the cost of the run."""

import asyncio
import json
from itertools import islice

import aiohttp
import msgspec
import pytest

from lmstream import Engine, Record, Settings
from lmstream.config import load
from lmstream.errors import ConfigError
from lmstream.lab.generator import Generator
from lmstream.observability.settings import EndpointSettings
from lmstream.observability.tap import HELD_ROWS, LISTENERS, LOOKED, Filter, Tap, TappedEngine
from lmstream.observability.tapping import tapped

SETTINGS = Settings(org_id="acme")


def records(count, **generator):
    bundles = islice(Generator(instances=2, **generator).bundles(), count)
    return [
        Record(topic="lm", partition=0, offset=n, timestamp=1715263558360, value=each.payload)
        for n, each in enumerate(bundles)
    ]


class Clock:
    """Time that passes when it is told to, and a little at each look."""

    def __init__(self, step=0.0):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


def heard(wanted, count=30, masks=(), clock=None):
    """What one listener gets of these records, and how much it does not."""
    tap = Tap(masks, clock or Clock())
    engine = TappedEngine(SETTINGS, tap)
    listener = tap.listen(wanted)
    for record in records(count):
        engine.fan_out(record)
    return [json.loads(line) for line in listener.take()], listener.left_out


def every(count=30):
    engine = Engine(SETTINGS)
    return [json.loads(line) for record in records(count) for line in engine.fan_out(record).ndjson().splitlines()]


MANY = {"rate": 1000.0, "count": 100_000}


def test_a_listener_sees_the_rows_that_are_delivered_and_all_others_are_counted():
    rows, left_out = heard(Filter(rate=10, count=1000))
    assert rows == every()[: len(rows)]
    assert len(rows) == 10, "a second's worth, for no time has passed"
    assert len(rows) + left_out == len(every())


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ({"metric": "Cpu*"}, lambda row: row["metric"].startswith("Cpu")),
        ({"org": "acme"}, lambda _: True),
        ({"org": "other"}, lambda _: False),
        ({"device": "host-0000?.example.net"}, lambda row: row["deviceName"] < "host-00010"),
        ({"device": "*", "metric": "CpuUsage"}, lambda row: row["metric"] == "CpuUsage"),
    ],
    ids=["metric", "org", "other org", "device", "both"],
)
def test_rows_are_filtered(wanted, matches):
    rows, left_out = heard(Filter(**wanted, **MANY))
    assert rows == [row for row in every() if matches(row)]
    assert left_out == 0


def test_one_row_and_the_rows_of_one_record_can_be_asked_for():
    one = every()[7]["rowId"]
    assert [row["rowId"] for row in heard(Filter(row=one, **MANY))[0]] == [one]
    bundle = one.partition(":")[0]
    found = heard(Filter(row=bundle, **MANY))[0]
    assert found == [row for row in every() if row["rowId"].startswith(bundle)]


def test_values_are_masked_wherever_they_are_and_by_the_host_for_everybody():
    rows, _ = heard(Filter(mask=("site", "deviceName"), **MANY), masks=("wildValue",))
    assert rows
    for row in rows:
        assert row["deviceName"] == row["resource"]["site"] == row["attributes"]["wildValue"] == "***"
        assert row["value"] != "***"
    hostname = every()[0]["deviceName"]
    assert hostname in json.dumps(heard(Filter(mask=("deviceName",), **MANY))[0]), (
        "it is an attribute of the resource too"
    )


def test_a_slow_listener_holds_a_bounded_number_of_rows():
    rows, left_out = heard(Filter(**MANY), count=200)
    assert len(rows) == HELD_ROWS
    assert left_out == len(every(200)) - HELD_ROWS


def test_looking_takes_a_fiftieth_of_the_time_at_most():
    """Each look at the clock takes a millisecond: a record costs two, of which one is looking."""
    clock = Clock(step=0.001)
    tap = Tap(clock=clock)
    engine = TappedEngine(SETTINGS, tap)
    listener = tap.listen(Filter(**MANY))
    several = records(50)
    rows = sum(engine.fan_out(record).rows for record in several * 20)
    shown = len(list(listener.take()))
    assert 0 < shown + listener.left_out == rows
    spent = shown / rows * len(several) * 20 * 0.001
    assert spent < 0.02 * clock.now + 0.03, "a fiftieth, and what was saved up at the beginning"


def test_of_a_large_record_the_first_rows_are_looked_at():
    bundle = json.loads(records(1)[0].value)
    metric = bundle["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]
    kind = next(key for key in ("gauge", "sum") if key in metric)
    metric[kind]["dataPoints"] = metric[kind]["dataPoints"][:1] * 5000
    bundle["resourceMetrics"][0]["scopeMetrics"][0]["metrics"] = [metric]
    bundle["resourceMetrics"] = bundle["resourceMetrics"][:1]
    tap = Tap(clock=Clock())
    engine = TappedEngine(SETTINGS, tap)
    listener = tap.listen(Filter(**MANY))
    record = msgspec.structs.replace(records(1)[0], value=json.dumps(bundle).encode())
    rows = engine.fan_out(record).rows
    assert rows >= 5000
    assert len(list(listener.take())) == LOOKED
    assert listener.left_out == rows - LOOKED


def test_an_error_of_the_tap_ends_the_tap_and_not_the_run(caplog):
    class Bad:
        rows = 1

        def first(self, _):
            raise RuntimeError("a bug")

    tap = Tap()
    tap.listen(Filter())
    tap.offer(Bad())
    assert tap.listeners == []
    assert "the run continues" in caplog.text


@pytest.mark.parametrize(
    "address", ["0.0.0.0:9474", "10.0.0.1:9474", "[::]:9474", "example.com:9474", "127.0.0.1", ":1", "127.0.0.1:99999"]
)
def test_an_address_that_others_can_reach_is_refused(address):
    with pytest.raises(ConfigError, match="this machine alone") as caught:
        load(env={}, overrides={"endpoints.tap": address})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("address", "at"),
    [
        ("127.0.0.1:9474", ("127.0.0.1", 9474)),
        ("localhost:1", ("127.0.0.1", 1)),
        ("[::1]:9474", ("::1", 9474)),
        ("", None),
    ],
)
def test_addresses_of_this_machine_are_taken_and_none_is_the_default(address, at):
    assert EndpointSettings(tap=address).tap_at == at
    assert EndpointSettings().tap == ""


@pytest.fixture
async def served(unused_tcp_port):
    tap = Tap()
    async with tapped(tap, "127.0.0.1", unused_tcp_port), aiohttp.ClientSession() as session:
        yield tap, session, f"http://127.0.0.1:{unused_tcp_port}/tap"


async def test_over_http_rows_come_until_there_are_enough(served):
    tap, session, url = served
    engine = TappedEngine(SETTINGS, tap)

    async def run():
        while True:
            for record in records(5):
                engine.fan_out(record)
            await asyncio.sleep(0.01)

    running = asyncio.create_task(run())
    try:
        async with (
            asyncio.timeout(20),
            session.get(url, params={"metric": "CpuUsage", "count": 25, "rate": 500}) as answer,
        ):
            assert answer.status == 200
            lines = (await answer.text()).splitlines()
    finally:
        running.cancel()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(rows) == 25
    assert {row["metric"] for row in rows} == {"CpuUsage"}
    assert lines[-1].startswith("# left out ")
    assert tap.listeners == []


async def test_who_goes_away_is_forgotten_and_too_many_are_refused(served):
    tap, session, url = served
    async with asyncio.timeout(20):
        answers = [await session.get(url) for _ in range(LISTENERS)]
        assert len(tap.listeners) == LISTENERS
        async with session.get(url) as refused:
            assert refused.status == 503
        for each in answers:
            each.close()
        while tap.listeners:  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("query", "status", "headers"),
    [
        ("?rate=0", 400, {}),
        ("?rate=1e9", 400, {}),
        ("?count=x", 400, {}),
        ("?device=a&nope=1", 400, {}),
        ("", 421, {"Host": "evil.example"}),
    ],
)
async def test_what_cannot_be_asked_is_refused(served, query, status, headers):
    tap, session, url = served
    async with session.get(url + query, headers=headers) as answer:
        assert answer.status == status
    assert tap.listeners == []


async def test_a_port_that_is_taken_stops_no_run_and_is_retried(unused_tcp_port, caplog, monkeypatch):
    monkeypatch.setattr("lmstream.observability.tapping._AGAIN", 0.05)
    holder = await asyncio.start_server(lambda *_: None, "127.0.0.1", unused_tcp_port)
    tap = Tap()
    async with tapped(tap, "127.0.0.1", unused_tcp_port), aiohttp.ClientSession() as session:
        assert "is taken by another process" in caplog.text
        holder.close()
        await holder.wait_closed()
        async with asyncio.timeout(20):
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{unused_tcp_port}/tap?rate=0") as answer:
                        assert answer.status == 400
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
