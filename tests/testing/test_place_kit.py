"""The suite of places of dead letters passes a right place and fails each wrong one, by the check meant for it."""

import asyncio
import contextlib
import hashlib

import msgspec
import pytest

from lmstream.dead_letters.form import decode, encode
from lmstream.testing import PlaceConformance, failures


class Right:
    """A folder of letters, each under the hash of what it is; a wrong place overrides a method."""

    largest = 1 << 30

    def __init__(self, folder):
        self.folder = folder

    async def check(self):
        self.folder.mkdir(exist_ok=True)

    async def write(self, letters, /):
        await asyncio.sleep(0)
        for letter in letters:
            self.keep(letter)

    def keep(self, letter):
        if (self.folder / "full").exists():
            raise OSError(28, "No space left on device")
        (self.folder / self.name(letter)).write_bytes(encode(letter))

    def name(self, letter):
        return hashlib.sha256(encode(letter)).hexdigest() + ".json"

    async def close(self):
        pass


class Suite(PlaceConformance):
    place = Right
    schedules = 30

    def make(self):
        return self.place(self.folder / "letters")

    def letters(self):
        return [decode(path.read_bytes()) for path in (self.folder / "letters").glob("*.json")]

    def fail(self):
        (self.folder / "letters/full").touch()

    def heal(self):
        (self.folder / "letters/full").unlink(missing_ok=True)


class TestRight(Suite):
    """The suite as a user has it: pytest collects it."""


class LosesTheLast(Right):
    async def write(self, letters, /):
        await super().write(letters[:-1] if len(letters) > 1 else letters)


class KeepsThemInMemory(Right):
    """Writes when it is closed."""

    def __init__(self, folder):
        super().__init__(folder)
        self.kept = []

    async def write(self, letters, /):
        self.kept += letters

    async def close(self):
        for letter in self.kept:
            self.keep(letter)
        self.kept = []


class BestEffort(Right):
    """An error is logged, and that is that."""

    def keep(self, letter):
        with contextlib.suppress(OSError):
            super().keep(letter)


class ByOffset(Right):
    """The older letter of the same coordinates is gone."""

    def name(self, letter):
        return f"{hashlib.sha256(letter.topic.encode()).hexdigest()}-{letter.partition}-{letter.offset}.json"


class ByTopic(ByOffset):
    """A topic is a folder: one with a slash is none."""

    def name(self, letter):
        return f"{letter.topic}-{letter.offset}-{letter.timestamp}-{hash(letter.value)}.json"


class NoHeaders(Right):
    def keep(self, letter):
        super().keep(msgspec.structs.replace(letter, headers=(), header_keys=()))


class NoIdentity(Right):
    """Rows of a replay would get other ids."""

    def keep(self, letter):
        super().keep(msgspec.structs.replace(letter, identity=None))


class Once(Right):
    """Refuses what is there."""

    def keep(self, letter):
        if (self.folder / self.name(letter)).exists():
            raise FileExistsError(17, "there already")
        super().keep(letter)


class OneAtATime(Right):
    """Keeps the letters of a write in a field."""

    async def write(self, letters, /):
        self.some = letters
        await asyncio.sleep(0.001)
        for letter in self.some:
            self.keep(letter)


class Small(Right):
    def keep(self, letter):
        if len(letter.value or b"") > 1_000_000:
            raise OSError(27, "File too large")
        super().keep(letter)


class NotThere(Right):
    async def check(self):
        raise OSError(2, "no such bucket")


class ClosesOnce(Right):
    closed = False

    async def close(self):
        if self.closed:
            raise RuntimeError("already closed")
        self.closed = True


class ForgetsWhatFailed(Right):
    """Counts a letter as written before it is: after a full disk it is not written again."""

    async def write(self, letters, /):
        known = BOOK.setdefault(self.folder, set())
        new = [each for each in letters if encode(each) not in known]
        known.update(map(encode, new))
        if len(known) % 3 == 0:
            raise ConnectionResetError("no answer")
        await super().write(new)


BOOK = {}
WRONG = {
    LosesTheLast: "test_a_letter_is_durable_and_whole_when_write_returns",
    KeepsThemInMemory: "test_a_letter_is_durable_and_whole_when_write_returns",
    BestEffort: "test_what_cannot_be_written_raises",
    ByOffset: "test_another_letter_of_the_same_coordinates_replaces_none",
    ByTopic: "test_a_letter_is_durable_and_whole_when_write_returns",
    NoHeaders: "test_a_letter_is_durable_and_whole_when_write_returns",
    NoIdentity: "test_a_letter_is_durable_and_whole_when_write_returns",
    Once: "test_the_same_letter_again_does_no_harm",
    OneAtATime: "test_letters_at_the_same_time_are_all_kept",
    Small: "test_it_is_there_and_takes_the_largest_letter",
    NotThere: "test_it_is_there_and_takes_the_largest_letter",
    ClosesOnce: "test_it_can_be_closed_twice_and_without_a_write",
    ForgetsWhatFailed: "test_schedules_lose_no_letter",
}


@pytest.mark.slow
@pytest.mark.parametrize("place", WRONG, ids=lambda place: place.__name__)
def test_a_wrong_place_is_found_by_the_check_that_is_meant_for_it(place):
    class Wrong(Suite):
        schedules = 60

    Wrong.place = place
    found = failures(Wrong)
    assert isinstance(found[WRONG[place]], Exception), found
    assert str(found[WRONG[place]]), "a check that fails says what it saw"


@pytest.mark.parametrize("name", [name for name in dir(PlaceConformance) if name.startswith("test_")])
def test_every_check_fails_for_some_wrong_place(name):
    assert name in WRONG.values()


@pytest.mark.parametrize("place", [LosesTheLast, KeepsThemInMemory, ForgetsWhatFailed])
def test_schedules_alone_find_the_places_that_lose_letters(place):
    suite = type("Wrong", (Suite,), {"place": place, "schedules": 200})
    with suite.anew() as one, pytest.raises(AssertionError) as caught:
        one.test_schedules_lose_no_letter()
    assert "LMSTREAM_SEED=" in "".join(caught.value.__notes__)
