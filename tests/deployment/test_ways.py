"""The same load through Firehose and written directly, against figures worked out by hand."""

import json
from pathlib import Path

import msgspec
import pytest

from lmstream.cli import main
from lmstream.deployment import Deployment, load
from lmstream.deployment.bill import GB, MONTH
from lmstream.deployment.estimate import estimate, prices
from lmstream.deployment.lake import Lake
from lmstream.deployment.ways import choice
from lmstream.errors import ConfigError
from lmstream.sinks.s3 import Settings as Sink

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "deploy/cdk/settings.toml"
MILLION = {"devices": 10_000, "row_bytes": 900, "metrics": 250, "gzip_ratio": 749 / 36.8, "parquet_ratio": 749 / 11.4}
"""A million rows a minute on 250 paths."""


def changed(**tables):
    raw = msgspec.to_builtins(load(SETTINGS))
    for table, keys in tables.items():
        raw[table] = raw[table] | keys if isinstance(keys, dict) else keys
    return msgspec.convert(raw, Deployment)


def found(**tables):
    return {way.name: way for way in estimate(changed(**tables), prices()).ways}


def lines(deployment):
    return {line.name: line for line in estimate(deployment, prices()).cost}


def test_a_million_rows_a_minute_cost_what_each_path_was_said_to_cost():
    """Windows of 300 s, memory enough for them."""
    ways = found(load=MILLION, partitions=8, container={"budget_mib": 2048, "memory_mb": 8192})
    firehose, gz, parquet = ways["firehose"], ways["direct gzip"], ways["direct parquet"]
    assert firehose.ingest == pytest.approx(1_051 + 724 + 11 + 11, rel=0.01)
    assert firehose.puts == 250 * 86_400 / 300 * 30
    assert firehose.storage == pytest.approx(41, rel=0.01)
    assert gz.storage == pytest.approx(41, rel=0.01)
    assert parquet.storage == pytest.approx(12.7, rel=0.01)
    objects, edges, claims = 8 * 250 * 8_640, 8 * 250 * 720, 8 * 8_640
    assert gz.puts == parquet.puts == objects + edges + claims
    assert objects * 0.005 / 1000 == pytest.approx(86.4)
    kms = gz.puts / 100 / 10_000 * 0.03
    assert gz.requests == pytest.approx(gz.puts * 0.005 / 1000 + kms)
    assert gz.ended_by == parquet.ended_by == "age"
    day = 1.44e9 * 900 / 2**40 * 5
    assert [firehose.query_usd, gz.query_usd] == pytest.approx([day * 36.8 / 749] * 2)
    assert parquet.query_usd == pytest.approx(day * 5.2 / 749, rel=0.01)


@pytest.mark.parametrize(
    ("lanes", "seconds", "objects", "claims"),
    [(8, 60, 432.0, 1.73), (8, 300, 86.4, 0.35), (2, 300, 21.6, 0.09)],
)
def test_requests_are_lanes_by_paths_by_windows(lanes, seconds, objects, claims):
    deployment = changed(
        path="direct",
        partitions=8,
        load=MILLION,
        lake={"lanes": lanes, "window_seconds": seconds, "format": "gzip"},
        container={"budget_mib": 4096, "memory_mb": 8192},
    )
    line = lines(deployment)["S3 requests"]
    edges = lanes * 250 * 720 * 0.005 / 1000
    assert line.usd == pytest.approx(objects + claims + edges, abs=0.01)
    assert f"{lanes * 250 * MONTH / seconds:,.0f} objects of {lanes} lanes" in line.how


def test_fewer_paths_of_a_day_have_no_edge_of_an_hour():
    ways = found(load=MILLION, engine={"path": "lake/{orgKey}/{yyyy}/{MM}/{dd}/"}, container={"memory_mb": 8192})
    # Six lanes, one path of 2,778 rows a second each: 715 MiB of lines are more than eleven objects of 64.
    pieces = 1e6 / 60 / 6 * 900 * 300 / 2**26
    assert ways["direct gzip"].puts == pytest.approx(6 * (pieces + 1) * MONTH / 300)


def test_memory_ends_the_window_that_does_not_fit_and_it_is_said():
    small = changed(path="direct", load=MILLION, container={"budget_mib": 64})
    made = estimate(small, prices())
    here = next(way for way in made.ways if way.configured)
    # 64 MiB for 16,667 rows a second, held as columns in 31 % of their lines; lines are held as they land.
    assert here.window_seconds == pytest.approx(64 * 2**20 * 7 / 8 / (1e6 / 60 * (900 * 0.31 + 1024 / 100)), rel=1e-6)
    lines = next(way for way in made.ways if way.name == "direct gzip")
    assert lines.window_seconds == pytest.approx(
        64 * 2**20 * 7 / 8 / (1e6 / 60 * (900 * 36.8 / 749 + 1024 / 100)), rel=1e-6
    )
    assert here.ended_by == "memory"
    assert any("because memory is full" in note and "container.budget_mib" in note for note in made.notes)
    more = next(
        way for way in found(path="direct", load=MILLION, container={"budget_mib": 1024}).values() if way.configured
    )
    assert more.puts < here.puts


def test_a_budget_for_requests_stretches_windows_or_says_that_it_cannot():
    tables = {"path": "direct", "load": MILLION, "container": {"budget_mib": 4096, "memory_mb": 8192}}
    kept = estimate(changed(**tables, lake={"monthly_dollars": 40.0}), prices())
    here = next(way for way in kept.ways if way.configured)
    assert here.ended_by == "cost"
    assert here.window_seconds == pytest.approx(MONTH * 6 * 251 * 0.005 / 1000 / 40)
    passed = estimate(changed(**tables, lake={"monthly_dollars": 1.0}), prices())
    assert any("over lake.monthly_dollars = 1" in note for note in passed.notes)


def test_compute_is_tasks_all_month_by_what_a_core_does():
    ways = found(load={"devices": 1_000_000})
    tasks = -(-1_666_667 // (150_000 * 0.6))
    assert ways["direct parquet"].compute == pytest.approx(tasks * 720 * (0.03238 + 2 * 0.00356))
    assert ways["direct gzip"].compute < ways["direct parquet"].compute
    x86 = found(container={"architecture": "x86_64", "tasks": 2})
    assert x86["direct gzip"].compute == pytest.approx(2 * 720 * (0.04048 + 2 * 0.004445))
    quarter = found(load={"devices": 100_000}, container={"cpu": 256, "memory_mb": 1024})
    assert quarter["direct gzip"].compute == pytest.approx(6 * 720 * (0.25 * 0.03238 + 0.00356))


def test_the_firehose_form_has_its_function_and_its_source():
    made = estimate(changed(), prices())
    firehose = next(way for way in made.ways if way.name == "firehose")
    by_name = {line.name: line.usd for line in made.cost}
    assert firehose.compute == pytest.approx(by_name["Lambda"] + by_name["Pipe"])
    assert firehose.usd == pytest.approx(made.total)
    assert [way.name for way in made.ways if way.configured] == ["firehose"]


def test_the_bill_of_a_direct_deployment_is_that_of_its_way():
    made = estimate(changed(path="direct"), prices())
    by_name = {line.name: line.usd for line in made.cost}
    assert "Firehose ingestion" not in by_name
    assert "Lambda" not in by_name
    here = next(way for way in made.ways if way.configured)
    assert (here.name, here.usd) == ("direct parquet", pytest.approx(made.total))
    assert by_name["interface endpoints"] == pytest.approx(4 * 3 * 720 * 0.01)
    assert {quota.name for quota in made.quotas} == {"S3 PUT of one prefix", "Fargate vCPU"}
    assert not any("Pipe" in line.name or "row in each" in line.name for line in made.alternatives)
    assert made.rates["gb_landed_per_month"] == pytest.approx(by_name["S3 storage"] / 0.023)
    zstd = estimate(changed(path="direct", lake={"format": "zstd"}), prices())
    assert [way.name for way in zstd.ways if way.configured] == ["direct zstd"]
    nat = lines(changed(path="direct", network={"egress": "nat"}))
    assert "interface endpoints" not in nat
    assert nat["NAT gateway"].usd == pytest.approx(0.045 * 720)


def test_parquet_is_smaller_where_a_path_holds_every_metric():
    by_metric = found(load=MILLION | {"parquet_ratio": None})["direct parquet"]
    together = found(load=MILLION | {"parquet_ratio": None}, engine={"path": "lake/{orgKey}/{yyyy}/{MM}/{dd}/"})[
        "direct parquet"
    ]
    assert by_metric.storage / together.storage == pytest.approx(3.2 / 2.4)


def test_the_command_shows_every_path_and_what_the_choice_costs_in_requests(capsys):
    assert main(["validate", "--deployment", str(SETTINGS)]) == 0
    said = capsys.readouterr().out
    for name in ("firehose *", "direct gzip", "direct parquet"):
        assert name in said
    assert "direct parquet costs 74" in said
    assert "in 11,283,840 requests to S3 instead of 1,728,000" in said
    assert main(["validate", "--deployment", str(SETTINGS), "--json"]) == 0
    ways = json.loads(capsys.readouterr().out)["ways"]
    assert [way["name"] for way in ways] == ["firehose", "direct gzip", "direct parquet"]


def test_the_choice_is_told_from_either_side():
    roomy = {"budget_mib": 2048, "memory_mb": 8192}
    here = estimate(changed(path="direct", load=MILLION, container=roomy), prices()).ways
    assert "USD a month more than direct parquet" in choice(here)
    small = estimate(changed(path="direct", load=MILLION), prices()).ways
    assert "direct gzip costs" in choice(small), "columns fill the memory sooner: more windows, more requests"
    there = estimate(changed(load=MILLION, container=roomy), prices()).ways
    assert "direct parquet costs" in choice(there)
    assert "less than firehose" in choice(there)


def test_bucket_keys_of_a_bucket_that_exists_are_asked_for():
    made = estimate(changed(path="direct", bucket={"name": "theirs", "existing": True}), prices())
    (note,) = [each for each in made.notes if "bucket keys on theirs" in each]
    puts = next(way for way in made.ways if way.configured).puts
    assert f"{puts / 10_000 * 0.03:,.2f} USD" in note


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"lake": {"window_seconds": 1000.0}}, r"lake\.window_max_seconds: 900 s is less than lake\.window_seconds"),
        ({"lake": {"lanes": 7}}, r"lake\.lanes: 7 lanes, and the topic has 6 partitions"),
        ({"lake": {"claim_days": 17}}, r"lake\.claim_days: 17 days is too short: .* at least 18"),
        ({"container": {"budget_mib": 1025}}, r"container\.budget_mib"),
        ({"container": {"cpu": 4096}}, r"container\.memory_mb: 2048 MiB; for .* Fargate offers 8,192 to 30,720"),
        ({"container": {"max_tasks": 7}}, r"container\.max_tasks: 1 to 7 tasks, and the topic has 6 partitions"),
        ({"container": {"enabled": True, "image": "x"}}, r"container\.bootstrap: no brokers to read from"),
        ({"container": {"security_group": "mine"}}, r"container\.security_group: expected an id as in sg-"),
        ({"container": {"kafka": "iam"}}, r"container\.kafka: a new cluster has mTLS only"),
        ({"engine": {"path": "{orgKey}/{yyyy}/{MM}/{dd}/"}}, r"engine\.path: .* begins with an organization's key"),
        ({"engine": {"path": "_lmstream/x/{orgKey}/{yyyy}/{MM}/{dd}/"}}, r"engine\.path: _lmstream/ holds the claims"),
    ],
)
def test_what_cannot_work_of_a_lake_is_one_sentence(tables, message):
    base = changed(path="direct")
    raw = msgspec.to_builtins(base)
    for table, keys in tables.items():
        raw[table] = raw[table] | keys
    with pytest.raises((ConfigError, msgspec.ValidationError), match=message):
        msgspec.convert(raw, Deployment)


def test_settings_of_the_other_path_are_not_judged():
    loose = changed(container={"enabled": True}, lake={"lanes": 99})
    assert loose.path == "firehose"
    many = changed(path="direct", load={"metrics": 3_000})
    assert many.active_partitions > many.stream.active_partitions


def test_a_settings_file_of_the_direct_path_has_a_prefix_of_its_own(tmp_path):
    text = SETTINGS.read_text().replace('region = "us-west-2"', 'region = "us-west-2"\npath = "direct"')
    path = tmp_path / "lake.toml"
    path.write_text(text)
    assert load(path).engine.path == "lake/{orgKey}/{metricKey}/{yyyy}/{MM}/{dd}/{HH}/"
    assert load(path).rows_prefix == "lake/"
    assert load(SETTINGS).rows_prefix == "rows/"


def test_what_the_settings_leave_out_is_what_the_sink_would_take():
    ours, theirs = Lake(), Sink(bucket="a-bucket")
    for name in (
        "window_max_seconds",
        "window_rows",
        "window_bytes",
        "object_bytes",
        "lanes",
        "division",
        "monthly_dollars",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_a_window_of_many_rows_ends_by_bytes_and_paths_get_further_objects():
    much = changed(
        path="direct",
        load=MILLION,
        lake={"window_bytes": 2**30, "lanes": 1},
        container={"budget_mib": 4096, "memory_mb": 8192},
    )
    here = next(way for way in estimate(much, prices()).ways if way.configured)
    assert here.ended_by == "bytes"
    assert here.window_seconds == pytest.approx(2**30 / (1e6 / 60 * 900))


def test_gb_are_those_of_the_table():
    way = found(load=MILLION)["direct gzip"]
    assert way.object_kib == pytest.approx(
        way.storage / 0.023 * GB / 1024 / (way.puts - 6 * 30 * 86_400 / way.window_seconds), rel=1e-6
    )
