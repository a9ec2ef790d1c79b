"""Generated bundles: however a bundle is said, and whatever came before it, the lines are the same, and the oracle's."""

import random

from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine, Settings
from lmstream.settings import Limits
from support import strategies, wire
from support.judging import ACME, agree, exact, judged, lines_of, record

SEEDS = st.integers(0, 2**32)
TENANTS = Settings(
    org_attributes=("tenant", "org", "hostId"),
    source_id="msk-eu",
    metric_key="allow",
    metric_allow=("CpuUsage", "../../etc", ""),
    path="p_org={orgKey}/p_metric={metricKey}/p_dt={yyyy}-{MM}-{dd}/p_hour={HH}/",
    exemplars=False,
)
WARM = Engine(ACME)
WARM_SMALL = Engine(Settings(org_id="acme", limits=Limits(cache_bytes=300)))
WARM_NONE = Engine(Settings(org_id="acme", limits=Limits(cache_bytes=0)))


def telling(bundle):
    """Not nothing, and not only an empty resource: those two have tests of their own."""
    return len(bundle.SerializeToString()) > 2


@given(strategies.bundles(), SEEDS)
def test_json_and_protobuf_give_the_same_lines_and_they_are_the_oracles(bundle, seed):
    rng = random.Random(seed)
    lines = agree(record(strategies.to_otlp_json(bundle, rng)))
    assert isinstance(lines, bytes)
    if telling(bundle):
        assert agree(record(bundle.SerializeToString())) == lines


@given(strategies.bundles(), SEEDS)
def test_every_way_to_say_a_bundle_in_protobuf_gives_the_same_lines(bundle, seed):
    bundle.resource_metrics.add().schema_url = "x"
    odd = wire.to_wire(bundle, random.Random(seed), unknown=strategies.has_points(bundle))
    meant = type(bundle).FromString(odd)
    meant.DiscardUnknownFields()
    assert meant == bundle or "nan" in str(bundle), "the encoder of this test is wrong"
    assert agree(record(odd)) == WARM.fan_out(record(bundle.SerializeToString())).ndjson()


@given(strategies.bundles(), SEEDS)
def test_other_settings_are_judged_alike(bundle, seed):
    agree(record(strategies.to_otlp_json(bundle, random.Random(seed))), TENANTS)
    if telling(bundle):
        agree(record(bundle.SerializeToString(), partition=2**31 - 1, offset=2**62, timestamp=-1), TENANTS)


@given(st.lists(strategies.bundles(), min_size=1, max_size=4), SEEDS)
def test_neither_caches_nor_order_nor_neighbours_change_a_byte(bundles, seed):
    rng = random.Random(seed)
    records = []
    for offset, bundle in enumerate(bundles):
        records.append(record(strategies.to_otlp_json(bundle, rng), offset=offset))
        bundle.resource_metrics.add().schema_url = "x"
        records.append(record(bundle.SerializeToString(), offset=offset))
    cold = [(out.ndjson(), out.skipped, out.rejected, out.noted) for out in (Engine(ACME).fan_out(r) for r in records)]
    for engine in (Engine(ACME), WARM, WARM_SMALL, WARM_NONE):
        order = list(range(len(records))) * 2
        rng.shuffle(order)
        for n in order:
            out = engine.fan_out(records[n])
            assert (out.ndjson(), out.skipped, out.rejected, out.noted) == cold[n]


@given(strategies.bundles(), SEEDS, st.integers(1, 5), st.integers(400, 4000))
def test_groups_and_cuts_hold_the_same_lines(bundle, seed, max_rows, max_bytes):
    out = WARM.fan_out(record(strategies.to_otlp_json(bundle, random.Random(seed))))
    lines = out.ndjson().splitlines(keepends=True)
    grouped = [line for group in out.groups for line in group.data.splitlines(keepends=True)]
    assert sorted(grouped) == sorted(lines)
    assert len({group.path for group in out.groups}) == len(out.groups)
    longest = max(map(len, lines), default=0)
    cut = out.cut(max_rows, max(max_bytes, longest))
    assert b"".join(data for data, _ in cut) == out.ndjson()
    for data, rows in cut:
        assert 0 < rows == data.count(b"\n") <= max_rows
        assert len(data) <= max(max_bytes, longest)


@given(strategies.bundles(), SEEDS, st.sets(st.integers(0, 12)))
def test_a_replay_makes_only_the_rows_it_names(bundle, seed, only):
    payload = strategies.to_otlp_json(bundle, random.Random(seed))
    whole = {row["rowId"]: row for row in lines_of(WARM.fan_out(record(payload)).ndjson())}
    out = WARM.fan_out(record(payload, only=tuple(sorted(only))))
    rows = {row["rowId"]: row for row in lines_of(out.ndjson())}
    assert exact(rows) == exact({key: row for key, row in whole.items() if int(key.partition(":")[2]) in only})
    verdict = judged(record(payload, only=tuple(only)))
    assert (list(out.rejected), out.skipped, out.rows) == (verdict.rejected, verdict.skipped, len(rows))


@given(st.lists(strategies.TEXT, min_size=9, max_size=9))
def test_no_text_of_a_payload_adds_or_changes_a_field(texts):
    """Every text of a bundle, names and keys and values, arrives as itself and nowhere else."""
    device, key, value, scope, version, name, unit, point_key, instance = texts
    bundle = strategies.pb.MetricsData()
    resource = bundle.resource_metrics.add()
    resource.resource.attributes.add(key="hostId").value.string_value = device
    resource.resource.attributes.add(key="x" + key).value.string_value = value
    scoped = resource.scope_metrics.add()
    scoped.scope.name, scoped.scope.version = scope, version
    metric = scoped.metrics.add(name=name, unit=unit)
    point = metric.gauge.data_points.add(time_unix_nano=1_715_263_558_360_000_000, as_int=1)
    point.attributes.add(key="wildValue").value.string_value = instance
    point.attributes.add(key="x" + point_key).value.array_value.values.add().string_value = value
    [row] = lines_of(Engine(ACME).fan_out(record(bundle.SerializeToString())).ndjson())
    assert row.pop("attributes").keys() == {"wildValue", "x" + point_key}
    assert row.pop("resource") == {"hostId": device, "x" + key: value}
    assert row.pop("scope", {}) == {k: v for k, v in (("name", scope), ("version", version)) if v}
    assert (row["deviceId"], row["datasource"], row["metric"]) == (device or "unknown", scope or "unknown", name)
    assert (row.get("unit", ""), row.get("instance", "")) == (unit, instance)
    assert row.keys() - {"unit", "instance"} == {
        *(
            "rowId",
            "orgId",
            "orgKey",
            "deviceId",
            "datasource",
            "metric",
            "metricKey",
            "type",
            "ts",
            "tsUnixMs",
            "value",
        )
    }
    assert row["orgId"] == "acme"
