"""Rules over rows: whatever they are, the engine says what the slow reference says of the rows without them."""

import json
import random
from collections import Counter

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lmstream import Engine, Settings
from lmstream.engine.sifted_output import SiftedOutput
from lmstream.native import native
from lmstream.partitioning import token
from support import rules_reference, strategies
from support.judging import check_sums, record
from support.native_twins import Twins
from support.rule_strategies import bundles, rule_lists
from support.twins import to_proto

TWO = b'"asDouble":2.0'
"""Of a point with two values, which protobuf cannot say."""
SETTINGS = Settings(org_attributes=("tenant",), org_by_topic={"given": "x1"})


def with_rules(rules, **more):
    return msgspec.structs.replace(SETTINGS, rules=tuple(rules), **more)


def expected(rules, rec, settings=SETTINGS):
    """(lines with their ordinals, rows dropped by rule), from the rows without rules."""
    out = Engine(settings).fan_out(rec)
    lines, dropped = [], Counter()
    for line in out.ndjson().splitlines():
        row = json.loads(line)
        made = rules_reference.shaped(rules, row, token)
        if isinstance(made, str):
            dropped[made] += 1
        else:
            lines.append(rules_reference.line_of(made))
    return out, lines, dropped


def same(rules, payload, settings=SETTINGS, **of_record):
    """Engine and reference agree about a payload."""
    rec = record(payload, **of_record)
    plain, lines, dropped = expected(rules, rec, settings)
    engine = Engine(msgspec.structs.replace(settings, rules=tuple(rules)))
    for _ in range(2):  # cold, and with pieces and plans known
        out = engine.fan_out(rec)
        assert out.ndjson().splitlines(keepends=True) == lines
        check_sums(out, rec)
        assert all(out.dropped.get(name, 0) >= count for name, count in dropped.items())
        if not plain.skipped and not plain.rejected:
            assert out.dropped == dict(dropped)
        assert set(out.skipped) <= set(plain.skipped)
        assert set(out.rejected) <= set(plain.rejected)
        assert out.points == plain.points
        assert b"".join(data for data, _ in out.cut(3, 10_000)) == out.ndjson()
        assert sorted(b"".join(group.data for group in out.groups).splitlines()) == sorted(out.ndjson().splitlines())
        assert {each.path: each.lines() for each in out.columns()} == {each.path: each.data for each in out.groups}
        assert out.paths == {group.path for group in out.groups}
        spread = {
            f"{org}/{metric.key}/{hour.decode().replace('-', '/').replace('T', '/')}/"
            for org, hour, metrics in out.spread()
            for metric in metrics
        }
        assert spread >= out.paths
        assert spread == out.paths or not isinstance(out, SiftedOutput)
        if out.hour is not None:
            org, hour = out.hour
            assert {path.partition("/")[0] for path in out.paths} <= {org}
            assert {path[-14:-1] for path in out.paths} <= {hour.decode().replace("-", "/").replace("T", "/")}
        for group in out.groups:
            for line in group.data.splitlines():
                row = json.loads(line)
                assert group.path.startswith(f"{row['orgKey']}/{row['metricKey']}/")
    return out


@given(rule_lists(), bundles(plain=True), st.sampled_from(["lm", "given"]))
def test_plain_bundles_are_shaped_as_the_reference_says(rules, payload, topic):
    same(rules, payload, topic=topic)


@given(rule_lists(), bundles(plain=False), st.sampled_from(["lm", "given"]))
def test_odd_bundles_are_shaped_as_the_reference_says(rules, payload, topic):
    same(rules, payload, topic=topic)


@given(rule_lists(), bundles(plain=False).filter(lambda payload: TWO not in payload))
def test_both_codecs_give_the_same_rows(rules, payload):
    engine = Engine(with_rules(rules))
    as_json, as_proto = engine.fan_out(record(payload)), engine.fan_out(record(to_proto(payload)))
    assert as_json.ndjson() == as_proto.ndjson()
    assert as_json.dropped == as_proto.dropped


@pytest.mark.skipif(native("scan") is None, reason="the native part is not built here: make native")
@given(rule_lists(), bundles(plain=True))
def test_the_native_part_gives_the_same_rows(rules, payload):
    Twins(with_rules(rules)).agree(payload)


@given(rule_lists(), strategies.bundles(), st.integers(0, 2**32))
def test_whatever_is_in_a_bundle_rules_do_what_the_reference_says(rules, bundle, seed):
    assume(strategies.has_points(bundle))
    settings = msgspec.structs.replace(SETTINGS, org_id="x1")
    as_json = strategies.to_otlp_json(bundle, random.Random(seed))
    out = same(rules, as_json, settings)
    engine = Engine(msgspec.structs.replace(settings, rules=rules))
    as_proto = engine.fan_out(record(bundle.SerializeToString()))
    assert (as_proto.ndjson(), as_proto.dropped) == (out.ndjson(), out.dropped)
