"""Odd bundles: every point is accounted for, and no sound value is lost for an unsound companion."""

import copy
import random

from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine, Settings
from lmstream.errors import DecodeError
from lmstream.settings import Limits
from support import odd, strategies
from support.judging import ACME, agree, exact, lines_of, record

SEEDS = st.integers(0, 2**32)
ANY = Settings(org_id="acme", field_names="any", time_fallback="record")
PLAIN = Settings(org_id="acme", exemplars=False)
WARM = Engine(ACME)
SMALL = Engine(Settings(org_id="acme", limits=Limits(cache_bytes=300)))


def damaged(bundle, seed: int) -> bytes:
    rng = random.Random(seed)
    tree = strategies.to_plain(bundle, rng)
    odd.damage(tree, rng)
    return strategies.written(tree, rng)


@given(strategies.bundles(), SEEDS)
def test_damaged_json_is_judged_as_the_oracle_judges_it(bundle, seed):
    payload = damaged(bundle, seed)
    for settings in (ACME, ANY, PLAIN):
        agree(record(payload), settings)


@given(strategies.bundles(), SEEDS)
def test_damaged_protobuf_is_judged_as_the_oracle_judges_it(bundle, seed):
    bundle.resource_metrics.add().schema_url = "x"
    odd.damage_proto(bundle, random.Random(seed))
    for settings in (ACME, ANY, PLAIN):
        agree(record(bundle.SerializeToString()), settings)


def all_said(engine: Engine, rec) -> tuple:
    try:
        out = engine.fan_out(rec)
    except DecodeError as e:
        return (e.reason, e.detail)
    return out.ndjson(), out.skipped, out.rejected, out.noted, out.parts, sorted(out.unknown), out.points


@given(st.lists(strategies.bundles(), min_size=1, max_size=3), SEEDS)
def test_what_came_before_changes_nothing_of_what_is_said(bundles, seed):
    """Counts too are the same warm and cold: what is noted of a cached piece is noted for every point that uses it."""
    rng = random.Random(seed)
    records = []
    for offset, bundle in enumerate(bundles):
        records.append(record(damaged(bundle, seed + offset), offset=offset))
        bundle.resource_metrics.add().schema_url = "x"
        odd.damage_proto(bundle, rng)
        records.append(record(bundle.SerializeToString(), offset=offset))
    cold = [all_said(Engine(ACME), rec) for rec in records]
    for engine in (WARM, SMALL):
        for n in rng.sample(range(len(records)), len(records)) * 2:
            assert all_said(engine, records[n]) == cold[n]


@given(st.lists(st.one_of(st.none(), st.tuples(strategies.bundles(), SEEDS), st.binary(max_size=20)), max_size=5))
def test_every_record_is_understood_or_empty_or_a_tombstone_or_undecodable(values):
    counts = dict.fromkeys(("understood", "empty", "tombstone", "undecodable"), 0)
    for value in values:
        payload = damaged(*value) if isinstance(value, tuple) else value
        try:
            out = WARM.fan_out(record(payload))
        except DecodeError:
            counts["undecodable"] += 1
            continue
        accounted = out.rows + sum(out.skipped.values()) + len(out.rejected)
        if payload is None:
            counts["tombstone"] += 1
            assert (out.points, out.rows, out.rejected, out.parts) == (0, 0, (), ())
        elif out.points:
            counts["understood"] += 1
            assert accounted == out.points
            assert "bundle.empty" not in out.noted
        else:
            counts["empty"] += 1
            assert (accounted, out.parts, out.noted["bundle.empty"]) == (0, (), 1)
    assert sum(counts.values()) == len(values)


# ---------------------------------------------------------------------------------------------- companions


def sound(kind: str, value: int) -> dict:
    """A data point with every part that its kind has, all of them sound."""
    point = {
        "timeUnixNano": str(1_715_263_558_360_000_000 + value * 10**6),
        "startTimeUnixNano": "1715263500000000000",
        "attributes": [{"key": "n", "value": {"intValue": str(value)}}],
        "exemplars": [{"asInt": "3", "timeUnixNano": "1715263558000000000", "traceId": "ab" * 16}, {"asDouble": 0.5}],
    }
    if kind in ("gauge", "sum"):
        return point | {"asInt": str(value)}
    point |= {"count": str(value), "sum": 1.5}
    if kind == "summary":
        del point["exemplars"]
        return point | {"quantileValues": [{"quantile": 0.5, "value": 1}, {"quantile": 1, "value": 2.5}]}
    point |= {"min": 0.5, "max": 9}
    if kind == "histogram":
        return point | {"bucketCounts": ["1", str(value)], "explicitBounds": [5]}
    return point | {"scale": 1, "zeroCount": "2", "zeroThreshold": 0.25, "positive": {"bucketCounts": [str(value)]}}


def sound_bundle(rng: random.Random) -> dict:
    """Two resources of two scopes of two metrics of two points, each of a kind at random."""
    numbers = iter(range(1, 100))

    def metric() -> dict:
        kind = rng.choice(odd.KINDS)
        return {"name": f"m{next(numbers)}", kind: {"dataPoints": [sound(kind, next(numbers)) for _ in range(2)]}}

    def scope() -> dict:
        return {"scope": {"name": f"s{next(numbers)}"}, "metrics": [metric() for _ in range(2)]}

    def resource() -> dict:
        host = {"key": "hostId", "value": {"stringValue": f"h{next(numbers)}"}}
        return {"resource": {"attributes": [host]}, "scopeMetrics": [scope() for _ in range(2)]}

    return {"resourceMetrics": [resource() for _ in range(2)]}


FIELDS = {
    "startTimeUnixNano": "startTsUnixMs",
    "quantileValues": "quantiles",
    **{name: name for name in ("sum", "min", "max", "zeroThreshold", "exemplars")},
}
"""Parts of a point, and their fields in the row."""
NEVER_SOUND = ("x", "NaN", "Infinity", odd.HUGE, True, {}, [None], -5e300)


def rows_of(tree: dict, rng: random.Random) -> tuple[list, object]:
    payload = strategies.written(tree, rng)
    out = WARM.fan_out(record(payload))
    agree(record(payload))
    return [exact(row) for row in lines_of(out.ndjson())], out


def without_ids(rows: list) -> list:
    return [{name: field for name, field in row.items() if name != "rowId"} for row in rows]


@given(SEEDS)
def test_a_damaged_part_costs_only_itself(seed):
    rng = random.Random(seed)
    tree = sound_bundle(rng)
    rows, before = rows_of(tree, rng)
    assert len(rows) == before.points == 16
    number = rng.randrange(16)
    _, point = odd.points(tree)[number]
    part = rng.choice([name for name in FIELDS if name in point])
    point[part] = rng.choice(NEVER_SOUND[:7] if part in ("sum", "min", "max", "zeroThreshold") else NEVER_SOUND)
    again, after = rows_of(tree, rng)
    rows[number].pop(FIELDS[part])
    assert again == rows
    assert (after.rejected, after.skipped) == ((), {})
    assert sum(times for reason, times in after.noted.items() if reason.startswith("part.")) == 1


@given(SEEDS)
def test_a_damaged_sibling_costs_only_itself(seed):
    """Another point, metric, scope or resource is damaged beyond repair: all other rows stay, with their ids."""
    rng = random.Random(seed)
    tree = sound_bundle(rng)
    rows, _ = rows_of(tree, rng)
    resource = rng.randrange(2)
    entry = tree["resourceMetrics"][resource]
    start, lost = 8 * resource, 8
    level = rng.choice(["resource", "scope", "metric", "point"])
    if level == "resource":
        entry["resource"] = rng.choice(["x", 7, {"attributes": {"a": 1}}, {"attributes": [{}] * 1025}])
    else:
        number = rng.randrange(2)
        scope = entry["scopeMetrics"][number]
        start, lost = start + 4 * number, 4
        if level == "scope":
            scope["scope"] = rng.choice(["x", [], {"name": 7}, {"attributes": [{}] * 1025}])
        else:
            number = rng.randrange(2)
            metric = scope["metrics"][number]
            start, lost = start + 2 * number, 2
            if level == "metric":
                metric[rng.choice(["name", "unit"])] = rng.choice([7, [], {}, True])
            else:
                [(_, data)] = odd.datas({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})
                number = rng.randrange(2)
                start, lost = start + number, 1
                data["dataPoints"][number] = rng.choice([7, None, "x", {}, {"timeUnixNano": "x"}, {"flags": 1}])
    again, after = rows_of(tree, rng)
    assert again == rows[:start] + rows[start + lost :]
    assert after.points == 16
    assert len(after.rejected) + sum(after.skipped.values()) == lost


@given(SEEDS)
def test_a_part_that_cannot_be_counted_costs_only_what_is_below_it(seed):
    rng = random.Random(seed)
    tree = sound_bundle(rng)
    rows, _ = rows_of(tree, rng)
    number = rng.randrange(8)
    metric = odd.metrics(tree)[number]
    [(kind, data)] = [(kind, metric[kind]) for kind in odd.KINDS if kind in metric]
    path = f"$.resourceMetrics[{number // 4}].scopeMetrics[{number // 2 % 2}].metrics[{number % 2}].{kind}"
    if rng.random() < 0.5:
        data["dataPoints"] = rng.choice([5, "x", {}, True])
        path += ".dataPoints"
    else:
        metric[kind] = rng.choice([5, "x", [], True])
    again, after = rows_of(tree, rng)
    assert without_ids(again) == without_ids(rows[: 2 * number] + rows[2 * number + 2 :])
    assert [part.path for part in after.parts] == [path]
    assert (after.points, after.rejected, after.skipped) == (14, (), {})
    letter = record(strategies.written(tree, rng), only=(), below=(path,))
    assert WARM.fan_out(letter).rows == 0
    mended = copy.deepcopy(tree)
    odd.metrics(mended)[number][kind] = {"dataPoints": [sound(kind, 1), sound(kind, 2)]}
    replayed = WARM.fan_out(record(strategies.written(mended, rng), only=(), below=(path,)))
    assert [int(row["rowId"].partition(":")[2]) for row in lines_of(replayed.ndjson())] == [14, 15]


@given(strategies.bundles(), SEEDS)
def test_what_is_unknown_beside_a_measurement_changes_no_row(bundle, seed):
    """Unknown members take nothing away from what is understood, and add nothing to a row."""
    rng = random.Random(seed)
    tree = strategies.to_plain(bundle, rng)
    if not strategies.has_points(bundle):
        return
    payload = strategies.written(tree, rng)
    lines = agree(record(payload))
    for _ in range(5):
        rng.choice(list(odd.objects(tree)))[rng.choice(["later", "x", "Name"])] = odd.odd_value(rng)
    assert agree(record(strategies.written(tree, rng))) == lines
