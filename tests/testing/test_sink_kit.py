"""The suite of sinks passes a right sink and fails each wrong one, by the check that is meant for it."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from lmstream.interfaces import Limits
from lmstream.model import Failure, Kind
from lmstream.testing import SinkConformance, failures

LIMITS = Limits(pack_bytes=1 << 20, pack_rows=1_000, request_packs=8, request_bytes=8 << 20)
REFUSED = Failure(Kind.PERMANENT, "refused", "by the service")
DOWN = Failure(Kind.RETRYABLE, "down")


class Service:
    """A file that rows are appended to, and what it refuses."""

    def __init__(self, folder: Path):
        self.path = folder / "rows"
        self.refused: set[str] = set()
        self.down = False

    def put(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines() if self.path.exists() else []


class Right:
    """A sink as it should be; a wrong one overrides a method."""

    limits = LIMITS

    def __init__(self, service: Service):
        self.service = service

    async def write(self, packs, /):
        await asyncio.sleep(0)
        return [self.one(pack) for pack in packs]

    def one(self, pack):
        if self.service.down:
            return DOWN
        if any(name.encode() in pack.data for name in self.service.refused):
            return REFUSED
        self.service.put(pack.data)
        return None

    async def close(self):
        pass


class Suite(SinkConformance):
    sink = Right
    schedules = 12

    def make(self):
        self.service = getattr(self, "service", None) or Service(self.folder)
        return self.sink(self.service)

    def landed(self):
        return self.service.lines()

    def refuse(self, row_ids):
        self.service.refused = set(row_ids)

    def fail(self):
        self.service.down = True

    def heal(self):
        self.service.down = False


class TestRight(Suite):
    """The suite as a user has it: pytest collects it."""


class SaysYesToAll(Right):
    """Reports success whatever the service says."""

    async def write(self, packs, /):
        await super().write(packs)
        return [None] * len(packs)


class DeliversOnClose(Right):
    """Reports success before rows are durable: it buffers them."""

    def __init__(self, service):
        super().__init__(service)
        self.kept = []

    def one(self, pack):
        if (said := Right.one(self, pack)) is None:
            self.kept.append(pack)
        return said

    async def write(self, packs, /):
        put, self.service.put = self.service.put, lambda _: None
        try:
            return await super().write(packs)
        finally:
            self.service.put = put

    async def close(self):
        for pack in self.kept:
            self.service.put(pack.data)
        self.kept = []


class InTheBackground(Right):
    """Writes a moment after it said so."""

    def one(self, pack):
        asyncio.get_running_loop().call_later(0.02, self.service.put, pack.data)


class OneTooFew(Right):
    async def write(self, packs, /):
        return (await super().write(packs))[:-1]


class OneTooMany(Right):
    async def write(self, packs, /):
        return [*(await super().write(packs)), None]


class OthersFirst(Right):
    """Verdicts in the order in which packs were done."""

    async def write(self, packs, /):
        return list(reversed(await super().write(packs)))


class TrueAndFalse(Right):
    async def write(self, packs, /):
        return [said is None for said in await super().write(packs)]


class LosesTheLastRow(Right):
    def one(self, pack):
        if (said := super().one(pack)) is None and pack.rows > 1:
            lines = self.service.lines()[:-1]
            self.service.path.write_bytes(b"".join(line + b"\n" for line in lines))
        return said


class CutsText(Right):
    """Keeps a row in a column that is too short."""

    def one(self, pack):
        self.service.put(b"".join(line[:500] + b"\n" for line in pack.data.splitlines()))


class Latin(Right):
    """Passes rows through an encoding that cannot hold them."""

    def one(self, pack):
        self.service.put(pack.data.decode().encode("latin-1", "replace"))


class RaisesWhenRepeated(Right):
    """A plain INSERT with a unique key."""

    async def write(self, packs, /):
        there = set(self.service.lines())
        if any(line in there for pack in packs for line in pack.data.splitlines()):
            raise sqlite3.IntegrityError("UNIQUE constraint failed")
        return await super().write(packs)


class OneAtATime(Right):
    """Keeps the request in a field."""

    async def write(self, packs, /):
        self.packs = packs
        await asyncio.sleep(0.001)
        return [self.one(pack) for pack in self.packs]


class LocksForEver(Right):
    """A lock that a cancelled request never gives back."""

    def __init__(self, service):
        super().__init__(service)
        self.locked = False

    async def write(self, packs, /):
        if self.locked:
            raise RuntimeError("another request is under way")
        self.locked = True
        await asyncio.sleep(0)
        said = [self.one(pack) for pack in packs]
        self.locked = False
        return said


class ClosesOnce(Right):
    closed = False

    async def close(self):
        if self.closed:
            raise RuntimeError("already closed")
        self.closed = True


class RefusesWhenDown(Right):
    """Calls an outage a refusal: the rows would be dead-lettered."""

    def one(self, pack):
        return REFUSED if self.service.down else super().one(pack)


class CannotHoldItsLimits(Right):
    def one(self, pack):
        return REFUSED if len(pack.data) > 100_000 else super().one(pack)


class NoRoom(Right):
    limits = Limits(pack_bytes=1_000_000, pack_rows=10, request_packs=1, request_bytes=1_000_000, base64=True)


class MakesUpRows(Right):
    def one(self, pack):
        self.service.put(b'{"rowId":"%032d:0"}\n' % 7)
        return super().one(pack)


class RaisesOnNothing(Right):
    async def write(self, packs, /):
        packs[0]
        return await super().write(packs)


class RemembersTooEarly(Right):
    """Leaves out what it saw before, and notes that before it is written: one that is killed between loses it."""

    async def write(self, packs, /):
        known = getattr(self.service, "seen", set())
        self.service.seen = known | {pack.data for pack in packs}
        await asyncio.sleep(0)
        return [None if pack.data in known else self.one(pack) for pack in packs]


WRONG = {
    SaysYesToAll: "test_verdicts_are_in_the_order_of_the_packs",
    DeliversOnClose: "test_what_is_delivered_is_durable_byte_for_byte",
    InTheBackground: "test_what_is_delivered_is_durable_byte_for_byte",
    OneTooFew: "test_what_is_delivered_is_durable_byte_for_byte",
    OneTooMany: "test_an_empty_request_has_no_verdicts",
    OthersFirst: "test_verdicts_are_in_the_order_of_the_packs",
    TrueAndFalse: "test_what_is_delivered_is_durable_byte_for_byte",
    LosesTheLastRow: "test_what_is_delivered_is_durable_byte_for_byte",
    CutsText: "test_what_is_delivered_is_durable_byte_for_byte",
    Latin: "test_what_is_delivered_is_durable_byte_for_byte",
    RaisesWhenRepeated: "test_rows_written_again_do_no_harm",
    OneAtATime: "test_requests_at_the_same_time_get_their_own_verdicts",
    LocksForEver: "test_a_request_that_was_cut_leaves_the_sink_usable",
    ClosesOnce: "test_it_can_be_closed_twice_and_without_a_write",
    RefusesWhenDown: "test_a_service_that_is_down_is_no_success",
    CannotHoldItsLimits: "test_a_request_as_large_as_the_limits_allow_is_answered",
    NoRoom: "test_limits_allow_a_pack",
    MakesUpRows: "test_what_is_delivered_is_durable_byte_for_byte",
    RaisesOnNothing: "test_an_empty_request_has_no_verdicts",
    RemembersTooEarly: "test_schedules_lose_nothing",
}


@pytest.mark.slow
@pytest.mark.parametrize("sink", WRONG, ids=lambda sink: sink.__name__)
def test_a_wrong_sink_is_found_by_the_check_that_is_meant_for_it(sink):
    class Wrong(Suite):
        schedules = 40

    Wrong.sink = sink
    found = failures(Wrong)
    assert isinstance(found[WRONG[sink]], Exception), found
    said = str(found[WRONG[sink]])
    assert said, "a check that fails says what it saw"


@pytest.mark.parametrize("name", [name for name in dir(SinkConformance) if name.startswith("test_")])
def test_every_check_fails_for_some_wrong_sink(name):
    assert name in WRONG.values()


def test_schedules_alone_find_the_sinks_that_lose_rows():
    for sink in (DeliversOnClose, LosesTheLastRow, MakesUpRows, RemembersTooEarly):
        suite = type("Wrong", (Suite,), {"sink": sink, "schedules": 100})
        with suite.anew() as one, pytest.raises(AssertionError) as caught:
            one.test_schedules_lose_nothing()
        assert "LMSTREAM_SEED=" in "".join(caught.value.__notes__)


def test_a_seed_can_be_chosen(monkeypatch):
    monkeypatch.setenv("LMSTREAM_SEED", "7")
    played = []
    monkeypatch.setattr("lmstream.testing.sinks.play", lambda seed, _: played.append(seed))
    with Suite.anew() as one:
        one.test_schedules_lose_nothing()
    assert played == [7]


def test_without_hooks_the_checks_that_need_them_are_skipped_and_say_so():
    class Plain(SinkConformance):
        schedules = 1
        make, landed = Suite.make, Suite.landed
        sink = Right

    found = failures(Plain)
    assert set(found.values()) == {None}
    assert "test_verdicts_are_in_the_order_of_the_packs" not in found
    assert failures(SinkConformance).keys() >= found.keys()
    assert "write make()" in str(failures(SinkConformance)["test_limits_allow_a_pack"])
