"""A codec of somebody else's: its reasons and its errors are its own, and none of them is taken for lmstream's."""

import sys
from types import SimpleNamespace

import msgspec
import pytest

from lmstream import Engine, Record, Settings
from lmstream.codecs.building import Point, PointCodec
from lmstream.engine.own_reasons import REASONS_OF_ITS_OWN
from lmstream.errors import ConfigError, DecodeError, LmstreamError, PluginError
from lmstream.interfaces import LostPart
from lmstream.lake.layout import Layout
from lmstream.rules import Conditions, Maps, Rule

NS = 1_715_263_558_360_000_000


@pytest.fixture
def engine(monkeypatch):
    """An engine with a codec whose `decode` is given, and its undamaged bundle of two points to it."""

    def made(decode):
        class Codec(PointCodec):
            def points(self, _payload):
                yield Point(metric="a", value=1, time=NS)
                yield Point(metric="b", value=2, time=NS)

            def decode(self, payload):
                return decode(payload, super().decode(payload))

        monkeypatch.setitem(sys.modules, "acme_codec", SimpleNamespace(Codec=Codec))
        return Engine(Settings(org_id="acme", format="acme_codec"))

    return made


def record(value=b"x"):
    return Record(topic="t", partition=0, offset=0, value=value)


def raises(error):
    def decode(*_):
        raise error

    return decode


def test_a_module_without_a_dot_is_a_codec_like_any_other(engine):
    assert engine(lambda _, bundle: bundle).fan_out(record()).rows == 2


def test_a_reason_of_its_own_is_kept_and_has_the_code_of_all_such_reasons(engine):
    with pytest.raises(DecodeError) as caught:
        engine(raises(DecodeError("acme.header", "no header"))).fan_out(record())
    assert (caught.value.reason, caught.value.code) == ("acme.header", "LMS-1027")
    assert str(caught.value).startswith("LMS-1027 no header [acme.header]. Fix: ")


def test_bytes_that_it_refuses_are_not_renamed_by_a_guess_at_what_they_are(engine):
    with pytest.raises(DecodeError, match="not mine"):
        engine(raises(DecodeError("decode.json", "not mine"))).fan_out(record(b'{"resourceSpans":[]}'))


@pytest.mark.parametrize("reason", ["no_dot", "Acme.header", "acme.x y", "acme." + "x" * 80, "", 7])
def test_what_does_not_look_like_a_reason_is_put_into_words(engine, reason):
    with pytest.raises(DecodeError) as caught:
        engine(raises(DecodeError(reason, "why"))).fan_out(record())
    assert caught.value.reason == "decode.own"
    assert caught.value.detail.endswith(": why")


def test_reasons_cannot_grow_without_end(engine):
    numbers = iter(range(REASONS_OF_ITS_OWN + 50))
    made = engine(lambda *_: raises(DecodeError(f"acme.n{next(numbers)}"))())
    seen = set()
    for _ in range(REASONS_OF_ITS_OWN + 50):
        with pytest.raises(DecodeError) as caught:
            made.fan_out(record())
        seen.add(caught.value.reason)
    assert len(seen) == REASONS_OF_ITS_OWN + 1
    assert "decode.own" in seen


def test_reasons_of_points_and_parts_are_its_own_too(engine):
    def decode(_, bundle):
        return msgspec.structs.replace(
            bundle, odd={0: "acme.unit", 1: "not a reason"}, lost=(LostPart("$.x", "acme.part", "gone"),)
        )

    out = engine(decode).fan_out(record())
    assert out.rejected == ((0, "acme.unit"), (1, "decode.own"))
    assert out.parts[0].reason == "acme.part"


@pytest.mark.parametrize("error", [KeyError("acme.csv"), ZeroDivisionError("x"), AttributeError("x"), OSError(5, "x")])
def test_any_other_error_is_that_of_the_module_with_its_line(engine, error):
    with pytest.raises(PluginError) as caught:
        engine(raises(error)).fan_out(record())
    assert caught.value.code == "LMS-9002"
    assert caught.value.detail.startswith(f"acme_codec raised {type(error).__name__}: ")
    assert "at test_own_codec.py:" in caught.value.detail
    assert caught.value.__cause__ is error


def test_too_deep_and_too_large_are_answers_like_of_any_codec(engine):
    for error, reason in ((RecursionError(), "limits.depth"), (MemoryError(), "limits.size")):
        with pytest.raises(DecodeError) as caught:
            engine(raises(error)).fan_out(record())
        assert caught.value.reason == reason


DAMAGES = {
    "not a bundle": lambda _: [],
    "a point without its value": lambda b: msgspec.structs.replace(b, values=b.values[1:]),
    "a column that is no list": lambda b: msgspec.structs.replace(b, times=iter(b.times)),
    "stops that end early": lambda b: msgspec.structs.replace(b, stops=[1, 1]),
    "a stop too few": lambda b: msgspec.structs.replace(b, stops=b.stops[:1]),
    "a last stop that is not the end": lambda b: msgspec.structs.replace(b, stops=[1, 3]),
    "series with a hole": lambda b: msgspec.structs.replace(b, series=[msgspec.structs.replace(b.series[0], start=1)]),
    "series that end early": lambda b: msgspec.structs.replace(
        b, series=[msgspec.structs.replace(b.series[0], stop=1)]
    ),
    "a series that cuts a metric": lambda b: msgspec.structs.replace(
        b,
        heads=b.heads[:1],
        stops=[2],
        series=[msgspec.structs.replace(b.series[0], stop=1), msgspec.structs.replace(b.series[0], start=1)],
    ),
    "a plain point listed as odd": lambda b: msgspec.structs.replace(b, odd={2: "value.two"}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_columns_that_do_not_fit_are_blamed_on_the_codec(engine, damage):
    with pytest.raises(PluginError, match="acme_codec returned a"):
        engine(lambda _, bundle: DAMAGES[damage](bundle)).fan_out(record())


def test_an_object_that_is_no_codec_is_refused_before_a_record_comes(monkeypatch):
    monkeypatch.setitem(sys.modules, "acme_codec", SimpleNamespace(Codec=lambda _: SimpleNamespace(decode=None)))
    with pytest.raises(ConfigError, match="its Codec has no largest and no clear"):
        Engine(Settings(format="acme_codec"))
    monkeypatch.setitem(sys.modules, "acme_codec", SimpleNamespace(Codec=raises(ValueError("bad settings"))))
    with pytest.raises(LmstreamError, match="acme_codec raised ValueError: bad settings"):
        Engine(Settings(format="acme_codec"))
    monkeypatch.setitem(sys.modules, "acme_codec", SimpleNamespace())
    with pytest.raises(ConfigError, match="the module has no Codec"):
        Engine(Settings(format="acme_codec"))


def test_a_lake_names_the_module_that_makes_its_rows_dot_or_no_dot():
    assert [each.name for each in Layout.of(Settings(format="json"), "gzip").modules] == ["json"]
    assert Layout.of(Settings(format="otlp_json"), "gzip").modules == ()
    assert Layout.of(Settings(), "gzip").modules == ()


def test_rules_shape_what_a_codec_makes_that_knows_nothing_of_them(engine):
    rules = (
        Rule(name="no-a", when=Conditions(metric="a"), drop=True),
        Rule(name="env", set=Maps(resource={"env": "prod"})),
    )
    theirs = engine(lambda _, bundle: bundle)
    ruled = Engine(msgspec.structs.replace(theirs.settings, rules=rules))
    for _ in range(2):
        out = ruled.fan_out(record())
        assert (out.rows, out.dropped) == (1, {"no-a": 1})
        row = msgspec.json.decode(out.ndjson())
        assert (row["metric"], row["resource"], row["rowId"][-2:]) == ("b", {"env": "prod"}, ":1")


def test_a_piece_that_is_none_is_the_codecs_fault_under_rules_too(engine):
    def broken(_, bundle):
        bundle.tails = [b"no piece"] * 2
        return bundle

    theirs = engine(broken)
    ruled = Engine(msgspec.structs.replace(theirs.settings, rules=(Rule(name="r", set=Maps(attributes={"a": "b"})),)))
    with pytest.raises(PluginError, match="no part of a row"):
        ruled.fan_out(record())
