"""The arithmetic of a deployment, against figures worked out by hand."""

import json
from pathlib import Path

import msgspec
import pytest

from lmstream.cli import main
from lmstream.deployment import Deployment, load
from lmstream.errors import ConfigError
from lmstream.estimate import estimate, prices

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "deploy/cdk/settings.toml"
BUSY = {"devices": 10_000, "rows_per_device_minute": 100.0, "row_bytes": 700, "metrics": 10}


def changed(**tables):
    raw = msgspec.to_builtins(load(SETTINGS))
    for table, keys in tables.items():
        raw[table] = raw[table] | keys
    return msgspec.convert(raw, Deployment)


def lines(found):
    return {line.name: line.usd for line in found.cost}


def test_a_million_rows_a_minute_of_700_bytes():
    found = estimate(changed(load=BUSY, stream={"mib_per_second": 20}), prices())
    assert found.rates["rows_per_second"] == pytest.approx(1e6 / 60)
    assert found.rates["gb_per_month"] == pytest.approx(43_200e6 * 700 / 2**30)
    # 500 rows are 350,000 bytes: 69 steps of 5 KB. Alone each is one step.
    packed, apart = 86.4e6 * 69 * 5120 / 2**30, 43_200e6 * 5120 / 2**30
    assert lines(found)["Firehose ingestion"] == pytest.approx(packed * 0.029)
    configured, single, existing = found.alternatives
    assert configured.usd == pytest.approx(found.total)
    assert single.usd - configured.usd == pytest.approx((apart - packed) * 0.029)
    fixed = 3 * (0.204 * 720 + 500 * 0.10) + 400 + 3 * 0.01 * 720  # a Pipe needs one endpoint, in three zones
    assert configured.usd - existing.usd == pytest.approx(fixed)


def test_a_quota_that_is_passed_is_over_with_its_mend():
    found = estimate(changed(load=BUSY), prices())
    quota = next(each for each in found.quotas if each.name == "Firehose Direct PUT")
    assert (round(quota.used, 2), quota.limit, quota.verdict) == (11.13, 5, "over")
    assert "stream.mib_per_second" in quota.mend
    close = estimate(changed(load=BUSY, stream={"mib_per_second": 12}), prices())
    assert close.quotas[0].verdict == "close"


def test_objects_are_counted_by_age_or_by_size():
    by_age = estimate(changed(load={"metrics": 100}), prices())
    assert by_age.rates["objects_per_day"] == 100 * 86_400 / 300
    by_size = estimate(changed(load={**BUSY, "metrics": 1, "devices": 1_000_000}), prices())
    assert by_size.rates["objects_per_day"] == pytest.approx(1e8 / 60 * 700 * 86_400 / (128 * 2**20))


def test_who_calls_and_how_it_reaches_aws_change_the_bill():
    assert {"Pipe", "interface endpoints", "private CA", "MSK"} <= lines(estimate(changed(), prices())).keys()
    other = changed(transform={"source": "mapping", "pollers": 2}, network={"egress": "nat"})
    found = lines(estimate(other, prices()))
    assert found["provisioned pollers"] == pytest.approx(2 * 720 * 0.0925)
    assert "NAT gateway" in found
    assert "Pipe" not in found


def test_the_command_prints_json_and_exits_by_the_quotas(tmp_path, capsys):
    assert main(["validate", "--deployment", str(SETTINGS), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["total_usd"] == pytest.approx(sum(line["usd"] for line in said["cost"]))
    assert {quota["verdict"] for quota in said["quotas"]} == {"ok"}
    busy = tmp_path / "busy.toml"
    busy.write_text(SETTINGS.read_text().replace("devices = 1000", "devices = 10000"))
    assert main(["validate", "--deployment", str(busy)]) == 2
    out, err = capsys.readouterr()
    assert "an existing cluster" in out
    assert "Firehose Direct PUT is over: ask AWS for more" in err


def test_another_price_table_is_read_and_a_wrong_one_refused(tmp_path):
    table = tmp_path / "prices.toml"
    text = (ROOT / "src/lmstream/prices.toml").read_text()
    table.write_text(text.replace("firehose_gb = 0.029 ", "firehose_gb = 0.058 "))
    own, ours = (lines(estimate(changed(), prices(path)))["Firehose ingestion"] for path in (table, None))
    assert own == pytest.approx(2 * ours)
    table.write_text(text.replace("nat_gb", "natt_gb"))
    with pytest.raises(ConfigError, match=r"natt_gb is no setting .* did you mean nat_gb\?"):
        prices(table)
    assert main(["validate", "--deployment", str(SETTINGS), "--prices", str(table)]) == 2
