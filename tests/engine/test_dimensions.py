"""Rows with keys and dimension rows: what the slow reference says of the rows without, and all of them joined again."""

import json
import random

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lmstream import Engine, RowEvent, Settings, spec
from lmstream.engine.dimensions import Dimensions
from lmstream.errors import DecodeError, PluginError
from lmstream.model import DimensionRow
from lmstream.native import native
from lmstream.settings import HIVE_PATH
from support import dimensions_reference as reference
from support import strategies
from support.judging import check_sums, record
from support.native_twins import Twins
from support.rule_strategies import bundles, rule_lists
from support.twins import to_proto

TWO = b'"asDouble":2.0'
"""Of a point with two values, which protobuf cannot say."""
SETTINGS = Settings(org_attributes=("tenant",), org_by_topic={"given": "x1"})
KEYED = msgspec.structs.replace(SETTINGS, dimensions=True)
EPOCH = 1_715_263_558_360


def same(payload, settings=SETTINGS, **of_record):
    """Engine and reference agree about a payload."""
    rec = record(payload, **of_record)
    plain = Engine(settings).fan_out(rec)
    rows = [json.loads(line) for line in plain.ndjson().splitlines()]
    made = [reference.keyed(row, settings.varying) for row in rows]
    expected = {line for _, lines in made for line in lines}
    engine = Engine(msgspec.structs.replace(settings, dimensions=True))
    for _ in range(2):  # cold, and with pieces known
        out = engine.fan_out(rec)
        assert out.ndjson().splitlines(keepends=True) == [line for line, _ in made]
        check_sums(out, rec)
        assert (out.rejected, out.skipped, out.dropped) == (plain.rejected, plain.skipped, plain.dropped)
        lines = [each.line for each in out.dimensions]
        assert len(lines) == len(set(lines))
        assert set(lines) == expected
        assert [(group.path, group.rows) for group in out.groups] == [(each.path, each.rows) for each in plain.groups]
        assert reference.joined(out.ndjson().splitlines(), lines) == rows
        hours = {(group.path.split("/")[0], *group.path.split("/")[2:]) for group in out.groups}
        for each in out.dimensions:
            org, kind, *hour = each.path.split("/")
            assert kind == "_dimensions"
            assert (org, *hour) in hours
            said = msgspec.json.decode(each.line, type=DimensionRow)
            assert (said.dimension, said.key) == (each.kind, each.key)
        for line in out.ndjson().splitlines():
            msgspec.json.decode(line, type=RowEvent)
            assert not spec.SpecLoader().validate_row_event(json.loads(line))
    return out


@given(rule_lists(), bundles(plain=True), st.sampled_from(["lm", "given"]))
def test_plain_bundles_are_as_the_reference_says_rules_and_all(rules, payload, topic):
    same(payload, msgspec.structs.replace(SETTINGS, rules=tuple(rules)), topic=topic)


@given(rule_lists(), bundles(plain=False), st.sampled_from(["lm", "given"]))
def test_odd_bundles_are_as_the_reference_says_rules_and_all(rules, payload, topic):
    same(payload, msgspec.structs.replace(SETTINGS, rules=tuple(rules)), topic=topic)


@given(rule_lists(), bundles(plain=False).filter(lambda payload: TWO not in payload))
def test_both_codecs_give_the_same_rows_and_dimensions(rules, payload):
    engine = Engine(msgspec.structs.replace(KEYED, rules=tuple(rules)))
    as_json, as_proto = engine.fan_out(record(payload)), engine.fan_out(record(to_proto(payload)))
    assert as_json.ndjson() == as_proto.ndjson()
    assert as_json.dimensions == as_proto.dimensions


@pytest.mark.skipif(native("scan") is None, reason="the native part is not built here: make native")
@given(rule_lists(), bundles(plain=True))
def test_the_native_part_gives_the_same_rows_and_dimensions(rules, payload):
    Twins(msgspec.structs.replace(KEYED, rules=tuple(rules))).agree(payload)


@given(
    strategies.bundles(), st.integers(0, 2**32), st.sampled_from([(), ("datasourceInstanceId",), ("a", "b", "name")])
)
def test_whatever_is_in_a_bundle_the_reference_says_the_same(bundle, seed, varying):
    assume(strategies.has_points(bundle))
    settings = msgspec.structs.replace(SETTINGS, org_id="x1", varying=varying)
    same(strategies.to_otlp_json(bundle, random.Random(seed)), settings)


def polled(*points, scope=(), resource=()):
    """A bundle of one metric; each point is its ms and attributes."""
    made = [
        {"timeUnixNano": str(ms * 1_000_000), "asInt": "1", "attributes": pairs(attributes)}
        for ms, attributes in points
    ]
    of = {"name": "ds", "attributes": pairs(dict(scope))}
    metrics = [{"name": "m", "gauge": {"dataPoints": made}}]
    scopes = [{"scope": of, "metrics": metrics}]
    return json.dumps(
        {"resourceMetrics": [{"resource": {"attributes": pairs(dict(resource))}, "scopeMetrics": scopes}]}
    ).encode()


def pairs(texts):
    return [{"key": name, "value": {"stringValue": text}} for name, text in texts.items()]


def rows_of(out):
    return [json.loads(line) for line in out.ndjson().splitlines()]


def test_the_epoch_is_left_out_where_it_is_the_time_of_the_row_and_polls_share_their_dimensions():
    engine = Engine(KEYED)
    seen = set()
    for poll in range(3):
        epoch = EPOCH + 60_000 * poll
        payload = polled((epoch, {"a": "1"}), (epoch + 1, {"a": "1"}), scope={"epoch": str(epoch), "collector": "snmp"})
        out = engine.fan_out(record(payload, topic="given"))
        assert [row.get("scope") for row in rows_of(out)] == [None, {"epoch": str(epoch)}]
        seen |= {(each.path, each.key) for each in out.dimensions}
        same(payload, topic="given")
    assert len(seen) == 4  # resource, scope with and without the row's time, attributes


def test_varying_attributes_stay_in_the_row_and_the_others_in_one_dimension():
    engine = Engine(KEYED)
    seen = set()
    for instance in ("7", "8"):
        scope = {"datasourceInstanceId": instance, "datasourceId": "1"}
        out = engine.fan_out(record(polled((EPOCH, {}), scope=scope), topic="given"))
        (row,) = rows_of(out)
        assert row["scope"] == {"datasourceInstanceId": instance}
        assert "attributesKey" not in row
        seen |= {each.key for each in out.dimensions}
    assert len(seen) == 2


def test_every_hour_of_a_record_has_its_own_dimensions():
    hour = EPOCH // 3_600_000 * 3_600_000
    out = same(polled((hour - 1, {"a": "1"}), (hour, {"a": "1"}), (hour, {"a": "2"})), topic="given")
    assert [(each.path, each.kind) for each in out.dimensions] == [
        ("x1/_dimensions/2024/05/09/13/", "resource"),
        ("x1/_dimensions/2024/05/09/13/", "scope"),
        ("x1/_dimensions/2024/05/09/13/", "attributes"),
        ("x1/_dimensions/2024/05/09/14/", "resource"),
        ("x1/_dimensions/2024/05/09/14/", "scope"),
        ("x1/_dimensions/2024/05/09/14/", "attributes"),
        ("x1/_dimensions/2024/05/09/14/", "attributes"),
    ]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (HIVE_PATH, "p_org=x1/p_metric=_dimensions/p_dt=2024-05-09/p_hour=14/"),
        ("m/{orgKey}/{yyyy}{MM}{dd}/", "m/_dimensions/x1/20240509/"),
        ("a/b/o-{orgKey}/{yyyy}/{MM}/{dd}/", "a/b/_dimensions/o-x1/2024/05/09/"),
        ("p_org={orgKey}/{yyyy}/{MM}/{dd}/", "_dimensions/p_org=x1/2024/05/09/"),
        ("rows/{orgKey}/{metricKey}/{yyyy}/{MM}/{dd}/{HH}/", "rows/x1/_dimensions/2024/05/09/14/"),
    ],
)
def test_dimension_rows_lie_beside_metrics_or_in_a_folder_of_their_own(path, wanted):
    engine = Engine(msgspec.structs.replace(KEYED, path=path))
    out = engine.fan_out(record(polled((EPOCH, {})), topic="given"))
    assert {each.path for each in out.dimensions} == {wanted}


def test_the_order_of_attributes_does_not_matter_to_a_key():
    engine = Engine(KEYED)
    made = [
        engine.fan_out(record(polled((EPOCH, of), resource=of, scope=of), topic="given")).dimensions
        for of in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    ]
    assert made[0] == made[1]


def test_a_row_is_the_same_whoever_is_beside_it_in_a_replay():
    payload = polled((EPOCH, {"a": "1"}), (EPOCH + 1, {"a": "2"}), (5, {"a": "3"}), scope={"epoch": str(EPOCH)})
    out = Engine(KEYED).fan_out(record(payload, topic="given"))
    assert out.rejected == ((2, "time.range"),)
    again = Engine(KEYED).fan_out(record(payload, topic="given", only=(1,)))
    assert again.ndjson().splitlines() == out.ndjson().splitlines()[1:]
    assert {each.line for each in again.dimensions} < {each.line for each in out.dimensions}


def test_points_without_rows_need_no_dimensions():
    payload = polled((5, {"a": "1"}), resource={"host": "h"})
    out = Engine(KEYED).fan_out(record(payload, topic="given"))
    assert (out.rows, out.dimensions) == (0, [])


def test_rows_with_a_dimension_too_large_for_a_row_are_rejected():
    settings = msgspec.structs.replace(KEYED, limits=msgspec.structs.replace(KEYED.limits, row_bytes=4096))
    payload = polled((EPOCH, {"a": "1"}), (EPOCH, {"a": "x" * 5000}), (EPOCH, {"a": "2"}))
    out = Engine(settings).fan_out(record(payload, topic="given"))
    assert out.rejected == ((1, "row.too_large"),)
    assert all(len(each.line) <= 4096 for each in out.dimensions)
    whole = Engine(settings).fan_out(record(polled((EPOCH, {}), resource={"r": "x" * 5000}), topic="given"))
    assert whole.rejected == ((0, "row.too_large"),)


def test_an_epoch_that_a_rule_renames_is_an_attribute_like_others():
    from lmstream.rules import Maps, Rule

    rules = (Rule(name="r", rename=Maps(scope={"epoch": "polled"})),)
    settings = msgspec.structs.replace(SETTINGS, rules=rules)
    for poll in range(3):
        same(polled((EPOCH + poll, {}), scope={"epoch": str(EPOCH + poll)}), settings, topic="given")


@pytest.mark.parametrize("epoch", ["", "soon", "171526355836", "17152635583600", "{tsUnixMs}", "١٧١٥٢٦٣٥٥٨٣٦٠"])
def test_an_epoch_of_another_form_stays_in_the_row(epoch):
    out = same(polled((EPOCH, {}), scope={"epoch": epoch}), topic="given")
    assert rows_of(out)[0]["scope"] == {"epoch": epoch}


def test_zeros_elsewhere_in_a_scope_are_not_taken_for_its_epoch():
    for poll in range(2):
        scope = {"serial": "0" * 13, "epoch": str(EPOCH + poll), "datasourceInstanceId": "0" * 13}
        same(polled((EPOCH, {}), scope=scope), topic="given")


def test_a_piece_of_somebody_elses_codec_that_is_no_part_of_a_row_is_blamed_on_it():
    engine = Engine(KEYED)
    bundle, _, _ = engine._decode(polled((EPOCH, {})))
    bundle.tails = [b',"attributes":x}\n']
    with pytest.raises(PluginError, match="no part of a row"):
        Dimensions(KEYED).keys(bundle, [b"{"], ["a"], [b""])


def test_the_contract_of_rows_takes_a_key_in_place_of_a_required_field():
    payload = polled((EPOCH, {"a": "1"}))
    (row,) = rows_of(Engine(KEYED).fan_out(record(payload, topic="given")))
    for key, field in (("resourceKey", "deviceId"), ("scopeKey", "datasource")):
        without = {name: value for name, value in row.items() if name != key}
        assert spec.SpecLoader().validate_row_event(without) == [f"{field}: required, but missing"]
        with pytest.raises(msgspec.ValidationError, match=field):
            msgspec.json.decode(json.dumps(without), type=RowEvent)


@pytest.mark.parametrize("path", [Settings().path, HIVE_PATH, "{orgKey}/{yyyy}/{MM}/{dd}/"])
def test_rows_and_dimension_rows_that_did_not_land_go_again_as_they_are_to_the_same_paths(path):
    engine = Engine(msgspec.structs.replace(KEYED, org_id="acme", path=path))
    payload = polled((EPOCH, {"a": "1"}), (EPOCH + 3_600_000, {"a": "2"}), resource={"hostName": "h"})
    out = engine.fan_out(record(payload))
    lines = b"".join(each.line for each in out.dimensions) + out.ndjson()
    again = engine.fan_out(record(lines, rows=True))
    assert again.ndjson() == lines
    assert (again.dimensions, again.rows) == ([], len(out.dimensions) + out.rows)
    paths = {line: group.path for group in again.groups for line in group.data.splitlines(keepends=True)}
    assert all(paths[each.line] == each.path for each in out.dimensions)
    assert {paths[line] for line in out.ndjson().splitlines(keepends=True)} == out.paths
    damaged = lines.replace(b'"dimension":"scope"', b'"dimension":"shape"')
    with pytest.raises(DecodeError, match="is not a row: Invalid enum value 'shape'"):
        engine.fan_out(record(damaged, rows=True))
