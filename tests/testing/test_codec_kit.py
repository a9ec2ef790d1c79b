"""The suite of codecs passes right codecs and fails each wrong one, by the check that is meant for it."""

import itertools
import zlib

import msgspec
import pytest

from lmstream.codecs import otlp_json, otlp_proto
from lmstream.codecs.building import Point, PointCodec
from lmstream.errors import DecodeError
from lmstream.interfaces import Metric
from lmstream.lab.generator import Generator
from lmstream.settings import Settings
from lmstream.testing import CodecConformance, failures

GOOD = b"web-1,cpu,1715263558,1.5\nweb-1,cpu,1715263559,2\nweb-2,disk,1715263559,7\nweb-2,disk,1715263560,nan\n"
SOME = {GOOD: 4, b"web-1,cpu,1715263558,full\n": 1, b"\n": 0, "wéb,\u2028,1715263558,1".encode(): 1}


class Right(PointCodec):
    """Lines of host, metric, seconds and value; a wrong one overrides a method."""

    def points(self, payload):
        try:
            text = payload.decode()
        except UnicodeDecodeError as e:
            raise DecodeError("decode.utf8", str(e)) from e
        for number, line in enumerate(filter(None, text.split("\n")), 1):
            yield self.point(line, f"line {number}")

    def point(self, line, at):
        try:
            host, metric, seconds, value = line.split(",")
        except ValueError:
            return Point(metric="", time=None, refused="acme.fields", why=f"{line.count(',') + 1} fields", at=at)
        try:
            return Point(
                metric=metric, value=float(value), time=int(seconds) * 10**9, resource={"host.name": host}, at=at
            )
        except ValueError as e:
            return Point(metric=metric, time=None, refused="acme.number", why=str(e), at=at)


class Suite(CodecConformance):
    codec = Right
    mutations = 400

    def make(self, settings):
        return self.codec(settings)

    def samples(self):
        return SOME


class TestRight(Suite):
    """The suite as a user has it: pytest collects it."""


BUNDLES = {one.payload: one.rows for one in itertools.islice(Generator(instances=1).bundles(), 3)}


class TestOtlpJson(CodecConformance):
    def make(self, settings):
        return otlp_json.Codec(settings)

    def samples(self):
        return BUNDLES


class TestOtlpProto(CodecConformance):
    def make(self, settings):
        return otlp_proto.Codec(settings)

    def samples(self):
        bundles = Generator(instances=1, format="protobuf").bundles()
        return {one.payload: one.rows for one in itertools.islice(bundles, 3)}


class LosesAPoint(Right):
    """Drops what it cannot read: its ordinal goes to the next one."""

    def points(self, payload):
        return (point for point in super().points(payload) if not point.refused)


class ShortColumn(Right):
    def decode(self, payload, /):
        bundle = super().decode(payload)
        bundle.starts = bundle.starts[1:]
        return bundle


class RaisesKeyError(Right):
    def decode(self, payload, /):
        if b"-" in payload and b"\xff" in payload:
            raise KeyError("acme.csv")
        return super().decode(payload)


class ReasonsWithNumbers(Right):
    def decode(self, payload, /):
        try:
            return super().decode(payload)
        except DecodeError as e:
            raise DecodeError(f"acme.sum_{zlib.crc32(payload)}") from e


class ReasonInWords(Right):
    def decode(self, payload, /):
        try:
            return super().decode(payload)
        except DecodeError as e:
            raise DecodeError("Not my format") from e


class InventsAnId(Right):
    def decode(self, payload, /):
        bundle = super().decode(payload)
        bundle.tails = [b',"rowId":"%032d:0"' % 7 + tail for tail in bundle.tails]
        return bundle


class InventsAMember(Right):
    def decode(self, payload, /):
        bundle = super().decode(payload)
        bundle.tails = [b',"colour":"red"' + tail for tail in bundle.tails]
        return bundle


class ForgetsToEscape(Right):
    def decode(self, payload, /):
        bundle = super().decode(payload)
        bundle.heads = [Metric(b'"metric":"a"b","metricKey":"a","type":"gauge",', "a") for _ in bundle.heads]
        bundle.metrics = [bundle.heads[0].piece] * len(bundle.metrics)
        return bundle


class NewlineInARow(Right):
    def decode(self, payload, /):
        bundle = super().decode(payload)
        bundle.tails = [b"\n" + tail for tail in bundle.tails]
        return bundle


class CountsForOthers(Right):
    """A shared dict of what was noted."""

    noted: dict[str, int] = {}  # noqa: RUF012 - that is the fault

    def decode(self, payload, /):
        bundle = super().decode(payload)
        bundle.noted = self.noted
        return bundle


class RemembersTheLast(Right):
    """Values are told as differences to the record before."""

    last = 0.0

    def point(self, line, at):
        made = super().point(line, at)
        if made.refused or made.value != made.value:
            return made
        before, self.last = self.last, made.value
        return msgspec.structs.replace(made, value=made.value - before)


class NoLargest(Right):
    largest = 0


class NoPlaces(Right):
    def places(self, _payload, /):
        return ()


WRONG = {
    LosesAPoint: "test_no_point_is_lost_and_the_columns_fit",
    ShortColumn: "test_no_point_is_lost_and_the_columns_fit",
    RaisesKeyError: "test_any_bytes_are_a_bundle_or_a_decode_error",
    ReasonsWithNumbers: "test_any_bytes_are_a_bundle_or_a_decode_error",
    ReasonInWords: "test_any_bytes_are_a_bundle_or_a_decode_error",
    InventsAnId: "test_rows_are_of_the_contract",
    InventsAMember: "test_rows_are_of_the_contract",
    ForgetsToEscape: "test_rows_are_of_the_contract",
    NewlineInARow: "test_rows_are_of_the_contract",
    CountsForOthers: "test_bundles_share_nothing_that_the_engine_adds_to",
    RemembersTheLast: "test_the_same_bytes_give_the_same_rows",
    NoLargest: "test_largest_bounds_the_pieces_of_every_row",
    NoPlaces: "test_every_point_can_be_named",
}


@pytest.mark.parametrize("codec", WRONG, ids=lambda codec: codec.__name__)
def test_a_wrong_codec_is_found_by_the_check_that_is_meant_for_it(codec):
    found = failures(type("Wrong", (Suite,), {"codec": codec, "mutations": 1_000}))
    assert isinstance(found[WRONG[codec]], Exception), found
    assert str(found[WRONG[codec]]), "a check that fails says what it saw"


@pytest.mark.parametrize("name", [name for name in dir(CodecConformance) if name.startswith("test_")])
def test_every_check_fails_for_some_wrong_codec(name):
    assert name in WRONG.values()


def test_a_suite_without_samples_says_so():
    class Empty(Suite):
        def samples(self):
            return {}

    assert "samples() is empty" in str(failures(Empty)["test_no_point_is_lost_and_the_columns_fit"])
    assert isinstance(Right(Settings()), PointCodec)
