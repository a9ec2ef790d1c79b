"""The suite of transforms passes a right one and fails each wrong one, by the check that is meant for it."""

import itertools
import time
from pathlib import Path

import msgspec
import pytest

from lmstream.errors import DecodeError
from lmstream.lab.generator import Generator
from lmstream.testing import TransformConformance, failures

SOME = [one.payload for one in itertools.islice(Generator(instances=1).bundles(), 2)]


class Right:
    """Says where a device is; a wrong one overrides a method."""

    def __init__(self, settings):
        self.settings = settings

    def apply(self, rows):
        return [self.one(row) for row in rows if row.type != "summary"]

    def one(self, row):
        return msgspec.structs.replace(row, attributes={**row.attributes, "site": row.device_id[:3]})


class Suite(TransformConformance):
    transform = Right

    def make(self, settings):
        return self.transform(settings)

    def samples(self):
        return SOME


class TestRight(Suite):
    """The suite as a user has it: pytest collects it."""


class MovesRows(Right):
    def one(self, row):
        return msgspec.structs.replace(row, org_id="evil", org_key="evil")


class TrustsTexts(Right):
    def one(self, row):
        return msgspec.structs.replace(row, unit=row.attributes["dataSourceInstanceName"])


class RefusesInWords(Right):
    def one(self, row):
        if not row.resource:
            raise DecodeError("No resource")
        return super().one(row)


class CountsUp(Right):
    seen = 0

    def one(self, row):
        self.seen += 1
        return msgspec.structs.replace(row, attributes={"n": str(self.seen)})


class AsksTheClock(Right):
    def one(self, row):
        return msgspec.structs.replace(row, attributes={"now": str(time.perf_counter_ns())})


class OrdersASet(Right):
    def one(self, row):
        return msgspec.structs.replace(row, attributes=dict.fromkeys({"a", "b", "c", "d", "e", *row.attributes}, ""))


class TellsLocalTime(Right):
    def one(self, row):
        hour = time.localtime(row.ts_unix_ms / 1000).tm_hour
        return msgspec.structs.replace(row, attributes={"hour": str(hour)})


class ReadsItsFolder(Right):
    def one(self, row):
        return msgspec.structs.replace(row, attributes={"here": str(Path.cwd())})


class DoesNothing(Right):
    def apply(self, rows):
        return rows


WRONG = {
    MovesRows: "test_rows_stay_rows_of_the_same_points",
    TrustsTexts: "test_any_rows_are_taken_or_refused_by_a_decode_error",
    RefusesInWords: "test_any_rows_are_taken_or_refused_by_a_decode_error",
    CountsUp: "test_the_same_bundle_gives_the_same_rows",
    AsksTheClock: "test_the_same_bundle_gives_the_same_rows",
    OrdersASet: "test_other_processes_give_the_same_rows",
    TellsLocalTime: "test_other_processes_give_the_same_rows",
    ReadsItsFolder: "test_other_processes_give_the_same_rows",
    DoesNothing: "test_samples_are_of_what_it_is_for",
}
SUITES = {each: type(f"Of{each.__name__}", (Suite,), {"transform": each, "__module__": __name__}) for each in WRONG}
globals().update({suite.__name__: suite for suite in SUITES.values()})


@pytest.mark.parametrize("transform", WRONG, ids=lambda transform: transform.__name__)
def test_a_wrong_transform_is_found_by_the_check_that_is_meant_for_it(transform):
    with SUITES[transform].anew() as one, pytest.raises(AssertionError) as caught:
        getattr(one, WRONG[transform])()
    assert str(caught.value), "a check that fails says what it saw"


@pytest.mark.parametrize("name", [name for name in dir(TransformConformance) if name.startswith("test_")])
def test_every_check_fails_for_some_wrong_transform(name):
    assert name in WRONG.values()


def test_a_suite_that_another_process_cannot_find_says_so():
    class Inside(Suite):
        pass

    assert "is not at the top of" in str(failures(Inside)["test_other_processes_give_the_same_rows"])


def test_a_suite_without_samples_says_so():
    class Empty(Suite):
        def samples(self):
            return []

    assert "samples() is empty" in str(failures(Empty)["test_samples_are_of_what_it_is_for"])
