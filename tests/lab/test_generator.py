"""The generator keeps its promises: same bytes for the same seed, LMDP's shape, and the engine agrees on every fate."""

import gzip
import json
from itertools import islice

import pytest

from lmstream import Engine, Record, Settings
from lmstream.errors import ConfigError, DecodeError
from lmstream.lab.generator import POISON, START_MS, Generator


def take(count, **options):
    return list(islice(Generator(**options).bundles(), count))


def rows_of(engine, payload, offset=0):
    out = engine.fan_out(Record(topic="t", partition=0, offset=offset, value=payload))
    ordinals = {int(json.loads(line)["rowId"].split(":")[1]) for line in out.ndjson().splitlines()}
    return out, ordinals


def test_the_same_arguments_give_the_same_bytes_and_another_seed_gives_others():
    options = {"chaos": 0.2, "poison": 0.1, "resources_per_bundle": 2}
    assert take(40, seed=7, **options) == take(40, seed=7, **options)
    assert take(40, seed=7, **options) != take(40, seed=8, **options)


def test_a_bundle_has_the_shape_of_the_data_publisher():
    (bundle,) = take(1, instances=2)
    message = json.loads(bundle.payload)
    (resource,) = message["resourceMetrics"]
    assert [a["key"] for a in resource["resource"]["attributes"]][:2] == ["hostName", "hostId"]
    scope = resource["scopeMetrics"][0]["scope"]
    attributes = {a["key"]: a["value"]["stringValue"] for a in scope["attributes"]}
    assert set(attributes) == {"collector", "epoch", "datasourceId", "datasourceInstanceId"}
    metric = resource["scopeMetrics"][0]["metrics"][0]
    (point,) = metric["sum"]["dataPoints"]
    assert point["timeUnixNano"] == attributes["epoch"] + "000000"
    assert [a["key"] for a in point["attributes"]] == [
        "dataSourceInstanceName",
        "datapointid",
        "wildValue",
        "wildAlias",
    ]
    assert bundle.points == bundle.rows == 6


def test_several_resources_share_a_bundle_when_asked():
    bundles = take(4, devices=5, datasources=1, resources_per_bundle=2, instances=1)
    assert [len(json.loads(b.payload)["resourceMetrics"]) for b in bundles] == [2, 2, 1, 2]


def test_time_goes_on_by_the_interval_after_every_poll_of_all_devices():
    bundles = take(5, devices=2, datasources=2, interval_ms=60_000, instances=1)
    epochs = [
        int(
            json.loads(b.payload)["resourceMetrics"][0]["scopeMetrics"][0]["scope"]["attributes"][1]["value"][
                "stringValue"
            ]
        )
        for b in bundles
    ]
    assert [(e - START_MS) // 60_000 for e in epochs] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("form", ["json", "protobuf"])
def test_the_engine_agrees_on_what_becomes_of_every_point_and_every_poison(form):
    engine = Engine(Settings(org_id="acme"))
    seen = set()
    for offset, bundle in enumerate(take(300, format=form, chaos=0.3, poison=0.2, instances=2)):
        if bundle.poison:
            seen.add(bundle.poison)
            with pytest.raises(DecodeError):
                engine.fan_out(Record(topic="t", partition=0, offset=offset, value=bundle.payload))
            continue
        out, ordinals = rows_of(engine, bundle.payload, offset)
        assert ordinals == set(range(bundle.points)) - set(bundle.absent)
        assert tuple(n for n, _ in out.rejected) == bundle.rejected
        assert out.rows == bundle.rows
    assert seen == set(POISON)


def test_json_and_protobuf_of_a_seed_are_the_same_rows():
    engine = Engine(Settings(org_id="acme"))
    for of_json, of_protobuf in zip(take(20), take(20, format="protobuf"), strict=True):
        assert rows_of(engine, of_json.payload)[0].ndjson() == rows_of(engine, of_protobuf.payload)[0].ndjson()


def test_compressed_bundles_hold_the_plain_ones():
    for plain, zipped in zip(take(5), take(5, compress=True), strict=True):
        assert gzip.decompress(zipped.payload) == plain.payload


@pytest.mark.parametrize(
    "wrong", [{"devices": 0}, {"chaos": 1.5}, {"poison": -0.1}, {"format": "xml"}, {"interval_ms": 0}]
)
def test_wrong_arguments_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Generator(**wrong)
