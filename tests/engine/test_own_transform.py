"""A transform of somebody else's: what it may do to rows it does, and what it may not is blamed on it."""

import itertools
import json
import math
import random
import sys
from collections import Counter
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import structs

from lmstream import Engine, RowEvent, Settings
from lmstream.engine.own_reasons import REASONS_OF_ITS_OWN
from lmstream.errors import ConfigError, DecodeError, PluginError
from lmstream.interfaces import MAY_CHANGE
from lmstream.lake.layout import Layout
from lmstream.model import Exemplar
from lmstream.native import native
from lmstream.rules import Conditions, Maps, Rule
from lmstream.verification.tracing import made_of
from support import dimensions_reference, rules_reference, strategies
from support.judging import check_sums, record
from support.native_twins import Twins
from support.rule_strategies import bundles, rule_lists
from support.twins import to_proto

NAME = "acme_transform"
TIME = "1715263558360000000"
ACME = Settings(org_id="acme")
TWO = b'"asDouble":2.0'
"""Of a point with two values, which protobuf cannot say."""


@pytest.fixture
def engine(monkeypatch):
    """An engine with a transform whose `apply` is given."""

    def made(apply, **settings):
        return with_transform(monkeypatch, apply, **settings)

    return made


def with_transform(patch, apply, **settings):
    make = lambda _: SimpleNamespace(apply=apply)  # noqa: E731 - as a class is called
    patch.setitem(sys.modules, NAME, SimpleNamespace(Transform=make))
    return Engine(Settings(**{"org_id": "acme", "transform": NAME} | settings))


def bundle(*points, kind="gauge", name="m"):
    """Points of one metric."""
    some = [{"timeUnixNano": TIME} | point for point in points]
    data = {"dataPoints": some} | ({"aggregationTemporality": 2} if kind != "gauge" else {})
    made = {"scope": {"name": "ds"}, "metrics": [{"name": name, "unit": "By", kind: data}]}
    return json.dumps({"resourceMetrics": [{"resource": host("a1"), "scopeMetrics": [made]}]}).encode()


def host(name):
    return {"attributes": [{"key": "host.name", "value": {"stringValue": name}}]}


def numbers(*values):
    return bundle(*({"asInt": str(value)} for value in values))


def histogram():
    return bundle({"count": "3", "bucketCounts": ["1", "2"], "explicitBounds": [1.5], "sum": 3}, kind="histogram")


def changed(**fields):
    return lambda rows: [structs.replace(row, **fields) for row in rows]


def rows(out):
    return [json.loads(line) for line in out.ndjson().splitlines()]


# --- what it may do ---


def test_rows_are_changed_and_left_out_and_counted_under_its_name(engine):
    def apply(rows):
        return [structs.replace(row, value=row.value * 2, unit="x") for row in rows if row.value != 2]

    out = engine(apply).fan_out(record(numbers(1, 2, 3)))
    assert [(row["value"], row["unit"], row["rowId"][-2:]) for row in rows(out)] == [(2, "x", ":0"), (6, "x", ":2")]
    assert (out.points, out.rows, out.dropped) == (3, 2, {NAME: 1})
    check_sums(out, record(b""))


def test_maps_may_be_changed_in_place(engine):
    def apply(rows):
        for row in rows:
            row.attributes["site"] = row.device_name[:1]
            row.resource.clear()
            row.scope.pop("name")
        return rows

    (row,) = rows(engine(apply).fan_out(record(numbers(1))))
    assert (row["attributes"], row.get("resource"), row.get("scope")) == ({"site": "a"}, None, None)


def test_fields_may_be_left_out_by_none_or_by_an_empty_text(engine):
    for nothing in (None, ""):
        (row,) = rows(engine(changed(unit=nothing, instance=nothing, device_name=nothing)).fan_out(record(numbers(1))))
        assert not {"unit", "instance", "deviceName"} & row.keys()


def test_rows_keep_their_order_whatever_the_order_of_the_answer(engine):
    usual = Engine(ACME).fan_out(record(numbers(1, 2, 3))).ndjson()
    assert engine(lambda rows: rows[::-1]).fan_out(record(numbers(1, 2, 3))).ndjson() == usual
    assert engine(lambda rows: (row for row in rows)).fan_out(record(numbers(1, 2, 3))).ndjson() == usual


def test_it_acts_after_the_rules(engine):
    rules = (
        Rule(name="env", set=Maps(resource={"env": "prod"})),
        Rule(name="no-b", when=Conditions(metric="b"), drop=True),
    )
    seen = []

    def apply(rows):
        seen.extend((row.metric, row.resource["env"]) for row in rows)
        return rows

    made = engine(apply, rules=rules)
    assert made.fan_out(record(bundle({"asInt": "1"}, name="b"))).dropped == {"no-b": 1}
    made.fan_out(record(bundle({"asInt": "1"}, name="a")))
    assert seen == [("a", "prod")]


def test_a_value_that_is_no_longer_finite_makes_no_row_like_one_that_was_sent(engine):
    def apply(rows):
        return [structs.replace(row, value=math.nan if row.value == 1 else row.value * 1e300) for row in rows]

    out = engine(apply).fan_out(record(numbers(1, 2, 10**9)))
    assert (out.rows, out.skipped, out.dropped) == (1, {"value.nan": 1, "value.infinite": 1}, {})


def test_what_a_value_or_a_size_makes_impossible_costs_the_point_alone(engine):
    def apply(rows):
        return [
            structs.replace(row, value=2**63) if row.value == 1 else structs.replace(row, attributes={"x": "y" * 3000})
            for row in rows
        ]

    made = engine(apply, limits=structs.replace(ACME.limits, row_bytes=2048))
    out = made.fan_out(record(bundle({"asInt": "1"}, {"asInt": "2"}, {"asInt": "3", "asDouble": 1})))
    assert out.rejected == ((0, "value.range"), (1, "row.too_large"), (2, "value.two"))
    assert out.why(0) == f"m as {NAME} made it: {2**63:,} is outside int64"
    assert "over the 2,048 of a row" in out.why(1)
    assert "$.resourceMetrics[0]" in out.why(2)


def test_numbers_of_a_histogram_land_as_they_were(engine):
    usual = rows(Engine(ACME).fan_out(record(histogram())))
    (row,) = rows(engine(changed(attributes={"a": "b"})).fan_out(record(histogram())))
    assert row == usual[0] | {"attributes": {"a": "b"}}


def test_a_record_that_it_refuses_is_dead_lettered_with_its_reason(engine):
    def refuse(reason):
        def apply(_):
            raise DecodeError(reason, "why")

        return apply

    for reason, told in (("acme.site", "acme.site"), ("Not a reason", "decode.own")):
        with pytest.raises(DecodeError) as caught:
            engine(refuse(reason)).fan_out(record(numbers(1)))
        assert caught.value.reason == told
    count = itertools.count()

    def anew(_):
        raise DecodeError(f"acme.n{next(count)}")

    made, seen = engine(anew), set()
    for _ in range(REASONS_OF_ITS_OWN + 9):
        with pytest.raises(DecodeError) as caught:
            made.fan_out(record(numbers(1)))
        seen.add(caught.value.reason)
    assert len(seen) == REASONS_OF_ITS_OWN + 1


def test_too_deep_and_too_large_are_answers_like_of_any_codec(engine):
    for error, reason in ((RecursionError(), "limits.depth"), (MemoryError(), "limits.size")):

        def apply(_, error=error):
            raise error

        with pytest.raises(DecodeError) as caught:
            engine(apply).fan_out(record(numbers(1)))
        assert caught.value.reason == reason


def test_a_point_that_it_leaves_out_is_traced_to_it(engine):
    made = engine(lambda rows: rows[1:])
    assert made_of(record(numbers(1, 2)), 0, made).why == f"engine.transform {NAME!r} leaves it out"
    assert made_of(record(numbers(1, 2)), 1, made).below.startswith("acme/m/")


# --- what it may not do ---

OTHER = {
    "row_id": "0" * 32 + ":0", "org_id": "evil", "org_key": "evil", "device_id": "x", "datasource": "x", "metric": "x",
    "metric_key": "x", "type": "sum", "ts": "2024-05-09T15:05:58.360Z", "ts_unix_ms": 1, "start_ts_unix_ms": 5,
    "temporality": "delta", "monotonic": True, "count": 1, "sum": 1.0, "min": 1.0, "max": 1.0, "bucket_counts": [1],
    "explicit_bounds": [1.0], "scale": 1, "zero_count": 1, "zero_threshold": 1.0, "positive": 1, "negative": 1,
    "quantiles": [], "resource_key": "x", "scope_key": "x", "attributes_key": "x",
}  # fmt: skip


def test_every_field_is_one_that_may_change_or_one_that_is_tried_here():
    may = {field.name for field in structs.fields(RowEvent) if field.encode_name in MAY_CHANGE}
    assert may | OTHER.keys() == set(RowEvent.__struct_fields__)
    assert not may & OTHER.keys()


@pytest.mark.parametrize("payload", [numbers(7), histogram()], ids=["gauge", "histogram"])
@pytest.mark.parametrize("field", OTHER)
def test_another_field_stops_the_run(engine, field, payload):
    with pytest.raises(PluginError) as caught:
        engine(changed(**{field: OTHER[field]})).fan_out(record(payload))
    assert caught.value.code == "LMS-9002"
    assert caught.value.detail.startswith(f"{NAME} ")
    if field not in ("row_id", "positive", "negative"):
        assert (
            f"changed {structs.fields(RowEvent)[RowEvent.__struct_fields__.index(field)].encode_name} of the row"
            in (caught.value.detail)
        )


def test_a_list_that_is_changed_in_place_is_seen(engine):
    def apply(rows):
        rows[0].bucket_counts[0] = 5
        return rows

    with pytest.raises(PluginError, match=r"changed bucketCounts of the row .* from \[1, 2\] to \[5, 2\]"):
        engine(apply).fan_out(record(histogram()))


WRONG = {
    "nothing": (lambda _: None, "answered None"),
    "no list": (lambda _: 5, "TypeError"),
    "a row twice": (lambda rows: [rows[0], rows[0]], "twice"),
    "more rows than there were": (lambda rows: [*rows, *rows, *rows], "more rows than the 2"),
    "rows without end": (lambda rows: iter(lambda: rows[0], None), "more rows than the 2"),
    "a dict": (lambda _: [{}], "answered dict, where a RowEvent was expected"),
    "an unknown id": (changed(row_id="x"), "with the unknown id 'x'"),
    "an id that is a list": (changed(row_id=[]), "answered an invalid row"),
    "a number as text": (changed(value="1"), "got `str` - at `$.value`"),
    "a truth as number": (changed(value=True), "got `bool` - at `$.value`"),
    "no number": (changed(value=None), "got `null` - at `$.value`"),
    "a number in a map": (changed(attributes={"a": 1}), "got `int` - at `$.attributes"),
    "a map of None": (changed(resource=None), "got `null` - at `$.resource`"),
    "a surrogate": (changed(unit="\ud800"), "surrogates not allowed"),
    "bytes": (changed(instance=b"x"), "got `bytes` - at `$.instance`"),
    "an exemplar with a text": (changed(exemplars=[Exemplar(value="x")]), "Expected `int | float`"),
    "an exemplar that is NaN": (changed(exemplars=[Exemplar(value=math.nan)]), "got `null`"),
    "an exemplar beyond int64": (changed(exemplars=[Exemplar(value=2**63)]), "outside int64"),
    "its own error": (lambda rows: rows[5], "raised IndexError"),
    "an error in the middle": (lambda rows: (1 // 0 for _ in rows), "at test_own_transform.py:"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_no_transform_may_do_is_told_with_its_module(engine, what):
    apply, said = WRONG[what]
    with pytest.raises(PluginError) as caught:
        engine(apply).fan_out(record(numbers(1, 2)))
    assert said in caught.value.detail, caught.value.detail
    assert caught.value.detail.startswith(NAME)


def test_a_value_on_a_histogram_is_no_row(engine):
    with pytest.raises(PluginError, match=r"Expected `null`, got `int` - at `\$.value`"):
        engine(changed(value=1)).fan_out(record(histogram()))


def test_a_module_without_a_transform_is_refused_before_a_record_comes(monkeypatch):
    for module, said in (
        (SimpleNamespace(), "the module has no Transform"),
        (SimpleNamespace(Transform=lambda _: 5), "its Transform has no apply"),
    ):
        monkeypatch.setitem(sys.modules, NAME, module)
        with pytest.raises(ConfigError, match=said):
            Engine(Settings(transform=NAME))
    with pytest.raises(ConfigError, match="No module named 'acme_none'"):
        Engine(Settings(transform="acme_none.x"))
    monkeypatch.setitem(sys.modules, NAME, SimpleNamespace(Transform=lambda _: {}["x"]))
    with pytest.raises(PluginError, match=r"raised KeyError: 'x' at test_own_transform\.py:"):
        Engine(Settings(transform=NAME))


def test_a_rule_cannot_have_its_name():
    rule = Rule(name=NAME, when=Conditions(metric="x"), drop=True)
    with pytest.raises(ConfigError, match=r"engine.rules.0.name: engine.transform is called 'acme_transform' too"):
        Settings(rules=(rule,), transform=NAME)


# --- replays, and rows that were made before ---


def test_a_replay_gives_the_rows_that_the_whole_record_gives(engine):
    def share(rows):
        """Each value as its part of all: what it becomes depends on the others."""
        whole = sum(row.value for row in rows)
        return [structs.replace(row, value=row.value / whole) for row in rows if row.value != 3]

    made = engine(share)
    whole = {row["rowId"]: row for row in rows(made.fan_out(record(numbers(1, 2, 3, 4))))}
    out = made.fan_out(record(numbers(1, 2, 3, 4), only=(1, 2)))
    assert [whole[row["rowId"]] for row in rows(out)] == rows(out)
    assert (out.rows, out.dropped, out.points) == (1, {NAME: 1}, 4)


def test_a_replay_below_a_part_keeps_the_numbers_of_the_others(engine):
    def part(name, *points):
        return {"scope": {"name": name}, "metrics": [{"name": "m", "gauge": {"dataPoints": [*points]}}]}

    good = [{"timeUnixNano": TIME, "asInt": str(n)} for n in range(3)]
    body = {"resourceMetrics": [{"scopeMetrics": [part("a", good[0]), part("b", good[1]), part("c", good[2])]}]}
    payload = json.dumps(body).encode()
    below = ("$.resourceMetrics[0].scopeMetrics[1]",)
    usual = Engine(ACME).fan_out(record(payload, only=(1,), below=below))
    out = engine(lambda rows: rows).fan_out(record(payload, only=(1,), below=below))
    assert out.ndjson() == usual.ndjson()
    assert [row["rowId"][-2:] for row in rows(out)] == [":2", ":1"]


def test_a_replay_rejects_again_what_it_replays_and_nothing_else(engine):
    payload = bundle({"asInt": "1"}, {"asInt": "2", "asDouble": 1}, {"asInt": "3", "asDouble": 1})
    out = engine(lambda rows: rows).fan_out(record(payload, only=(0, 2)))
    assert (out.rows, out.rejected) == (1, ((2, "value.two"),))


def test_rows_that_were_made_before_go_as_they_are(engine):
    made = engine(changed(unit="once"))
    lines = made.fan_out(record(numbers(1))).ndjson()
    other = engine(changed(unit="twice"))
    assert other.fan_out(record(lines, rows=True)).ndjson() == lines


def test_tombstones_and_empty_bundles_never_reach_it(engine):
    made = engine(lambda _: 1 // 0)
    assert made.fan_out(record(None)).skipped == {"record.tombstone": 1}
    assert made.fan_out(record(b'{"resourceMetrics":[]}')).rows == 0


# --- any bundle, any transform that keeps its promises, against one that works on plain dicts ---


def dice(seed, row_id):
    return random.Random(f"{seed} {row_id}")


def edited(row, seed):
    """What the transform of this seed makes of a row, as a dict; None for one that it leaves out."""
    roll = dice(seed, row["rowId"])
    act = roll.randrange(6)
    if act == 0:
        return None
    row = json.loads(json.dumps(row))
    if act == 1:
        row["attributes"] = {**row.get("attributes", {}), 'x"\u2028': "\U0001f600\n"}
    if act == 2:
        row["resource"] = dict(reversed(row.get("resource", {}).items()))
        row["unit"] = roll.choice(["By", "", "\x00"])
    if act == 3 and "value" in row:
        row["value"] = roll.choice([0, -0.0, 2**63 - 1, 0.1, 1e300])
    if act == 4:
        row["exemplars"] = None
        row["instance"] = roll.choice([None, "i"])
    return {name: value for name, value in row.items() if name not in MAY_CHANGE or value not in (None, "", {})}


class Edits:
    """The same on RowEvents, as somebody would write it."""

    def __init__(self, seed):
        self.seed = seed

    def apply(self, rows):
        found = []
        for row in rows:
            plain = edited(msgspec.json.decode(msgspec.json.encode(row)), self.seed)
            if plain is not None:
                found.append(msgspec.convert(plain, RowEvent))
        return found[::-1]


def same(patch, seed, payload, rules=(), **of_record):
    rec = record(payload, **of_record)
    settings = Settings(org_id="acme", rules=tuple(rules), org_attributes=("tenant",))
    plain = Engine(settings).fan_out(rec)
    made = with_transform(patch, Edits(seed).apply, rules=tuple(rules), org_attributes=("tenant",))
    out = made.fan_out(rec)
    expected = [edited(row, seed) for row in rows(plain)]
    lines = [rules_reference.line_of(row) for row in expected if row is not None]
    assert out.ndjson().splitlines(keepends=True) == lines
    assert Counter(out.dropped) == Counter(plain.dropped) + Counter({NAME: expected.count(None)})
    assert (out.skipped, out.rejected, out.noted) == (plain.skipped, plain.rejected, plain.noted)
    assert (out.points, out.left_out, out.parts, out.hour) == (plain.points, plain.left_out, plain.parts, plain.hour)
    check_sums(out, rec)
    assert b"".join(data for data, _ in out.cut(3, 10_000)) == out.ndjson()
    assert {each.path: each.lines() for each in out.columns()} == {each.path: each.data for each in out.groups}
    assert sum(each.rows for each in out.groups) == out.rows
    assert out.paths <= plain.paths
    for group in out.groups:
        for line in group.data.splitlines():
            row = json.loads(line)
            assert group.path.startswith(f"{row['orgKey']}/{row['metricKey']}/{row['ts'][:4]}/")
    return made, out


@given(st.integers(0, 2**32), rule_lists(), bundles(plain=True))
def test_plain_bundles_are_transformed_as_the_reference_says(seed, rules, payload):
    with pytest.MonkeyPatch.context() as patch:
        same(patch, seed, payload, rules)


@given(st.integers(0, 2**32), rule_lists(), bundles(plain=False).filter(lambda payload: TWO not in payload))
def test_odd_bundles_too_by_both_codecs(seed, rules, payload):
    with pytest.MonkeyPatch.context() as patch:
        made, out = same(patch, seed, payload, rules)
        as_proto = made.fan_out(record(to_proto(payload)))
        assert (as_proto.ndjson(), as_proto.dropped) == (out.ndjson(), out.dropped)


@given(strategies.bundles(), st.integers(0, 2**32), st.sets(st.integers(0, 12), max_size=5))
def test_whatever_is_in_a_bundle_and_whatever_of_it_is_replayed(message, seed, only):
    assume(strategies.has_points(message))
    payload = strategies.to_otlp_json(message, random.Random(seed))
    with pytest.MonkeyPatch.context() as patch:
        _, out = same(patch, seed, payload)
        _, again = same(patch, seed, payload, only=tuple(sorted(only)))
        whole = {row["rowId"]: row for row in rows(out)}
        assert all(whole[row["rowId"]] == row for row in rows(again))


@pytest.mark.skipif(native("scan") is None, reason="the native part is not built here: make native")
@given(st.integers(0, 2**32), bundles(plain=True))
def test_the_native_part_gives_the_same_rows(seed, payload):
    with pytest.MonkeyPatch.context() as patch:
        settings = with_transform(patch, Edits(seed).apply).settings
        Twins(settings).agree(payload)


@given(st.integers(0, 2**32), rule_lists(), bundles(plain=False).filter(lambda payload: TWO not in payload))
def test_rows_get_their_keys_after_it(seed, rules, payload):
    with pytest.MonkeyPatch.context() as patch:
        _, plain = same(patch, seed, payload, rules)
        more = {"org_attributes": ("tenant",), "rules": tuple(rules), "dimensions": True}
        engine = with_transform(patch, Edits(seed).apply, **more)
        made = [dimensions_reference.keyed(row) for row in rows(plain)]
        for _ in range(2):  # cold, and with pieces known
            out = engine.fan_out(record(payload))
            assert out.ndjson().splitlines(keepends=True) == [line for line, _ in made]
            lines = [each.line for each in out.dimensions]
            assert set(lines) == {line for _, needed in made for line in needed}
            assert len(lines) == len(set(lines))
            assert (out.dropped, out.rejected, out.points) == (plain.dropped, plain.rejected, plain.points)
            assert [(each.path, each.rows) for each in out.groups] == [(each.path, each.rows) for each in plain.groups]
            engine.clear_caches()


def test_a_row_whose_dimension_row_would_be_too_large_is_rejected(engine):
    def apply(rows):
        return [structs.replace(row, attributes={"x": "y" * (1024 + n)}) for n, row in enumerate(rows)]

    most = structs.replace(ACME.limits, row_bytes=2048)
    out = engine(apply, dimensions=True, limits=most).fan_out(record(numbers(*range(1000))))
    assert 0 < len(out.rejected) < 1000
    assert max(len(each.line) for each in out.dimensions) <= 2048


# --- what a lake says of it ---


def test_a_claim_names_its_source_and_what_installed_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "acme_rates.py").write_text("A = 1\n")
    settings = Settings(org_id="acme", transform="acme_rates")
    layout = Layout.of(settings, "gzip")
    assert [(each.name, each.distribution) for each in layout.modules] == [("acme_rates", "")]
    assert "acme_rates (source " in layout.code
    (module,) = Layout.of(Settings(format="msgspec.json", transform="pytest"), "gzip").modules[1:]
    assert (module.name, module.distribution, module.version) == ("pytest", "pytest", pytest.__version__)
    assert Layout.of(Settings(org_id="acme"), "gzip").hash != layout.hash


def test_rows_are_made_by_the_source_that_a_claim_names_and_by_no_other(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "acme_rates.py"
    module.write_text("A = 1\n")
    layout = Layout.of(Settings(org_id="acme", transform="acme_rates"), "gzip")
    assert layout.is_made_here
    (of,) = layout.modules
    older = structs.replace(layout, version="0.0.1", modules=(structs.replace(of, distribution="acme", version="1"),))
    assert older.is_made_here, "digests tell whether another version makes other rows"
    module.write_text("A = 2\n")
    assert not layout.is_made_here
    module.unlink()
    assert not layout.is_made_here
    gone = Layout.of(Settings(transform="acme_gone.below"), "gzip")
    assert gone.modules[0].source == ""
