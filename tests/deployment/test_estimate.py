"""The arithmetic of a deployment, against figures worked out by hand."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from lmstream.cli import main
from lmstream.deployment import Deployment, load
from lmstream.deployment.bill import alarms
from lmstream.deployment.estimate import estimate, prices
from lmstream.errors import ConfigError

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "deploy/cdk/settings.toml"
BUSY = {"devices": 10_000, "rows_per_device_minute": 100.0, "row_bytes": 700, "metrics": 10}


def changed(**tables):
    raw = msgspec.to_builtins(load(SETTINGS))
    for table, keys in tables.items():
        raw[table] = raw[table] | keys if isinstance(keys, dict) else keys
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
    configured, single, existing = found.alternatives[:3]
    assert configured.usd == pytest.approx(found.total)
    assert single.usd - configured.usd == pytest.approx((apart - packed) * 0.029)
    through = 43_200e6 / 100 * 25_000 * 4 / 3 / 2**30 * 0.01
    fixed = 3 * (0.204 * 720 + 500 * 0.10) + 400 + 3 * 0.01 * 720 + through  # a Pipe needs one endpoint, in three zones
    assert configured.usd - existing.usd == pytest.approx(fixed)


def test_a_quota_that_is_passed_is_over_with_its_mend():
    found = estimate(changed(load=BUSY), prices())
    quota = next(each for each in found.quotas if each.name == "Firehose Direct PUT")
    assert (round(quota.used, 2), quota.limit, quota.verdict) == (11.13, 5, "over")
    assert "stream.mib_per_second" in quota.fix
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
    assert found["provisioned pollers"] == pytest.approx(720 * 0.185), "one EPU has 10 pollers"
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
    assert "Firehose Direct PUT is over: Firehose raises it without a request" in err


def test_another_price_table_is_read_and_a_wrong_one_refused(tmp_path):
    table = tmp_path / "prices.toml"
    text = (ROOT / "src/lmstream/deployment/prices.toml").read_text()
    table.write_text(re.sub(r"(?m)^firehose_gb = .*$", "firehose_gb = 0.058", text))
    own, ours = (lines(estimate(changed(), prices(path)))["Firehose ingestion"] for path in (table, None))
    assert own == pytest.approx(2 * ours)
    table.write_text(text.replace("nat_gb", "natt_gb"))
    with pytest.raises(ConfigError, match=r"natt_gb is not a setting .* did you mean nat_gb\?"):
        prices(table)
    assert main(["validate", "--deployment", str(SETTINGS), "--prices", str(table)]) == 2


def quota(deployment, name="Firehose Direct PUT"):
    return next(each for each in estimate(deployment, prices()).quotas if each.name == name)


def test_a_new_stream_takes_one_mib_a_second_in_most_regions_until_it_is_raised():
    frankfurt = quota(changed(region="eu-central-1"))
    assert (frankfurt.limit, frankfurt.verdict) == (1.0, "over"), "1.43 MiB/s are not ok there"
    assert "Firehose raises it without a request" in frankfurt.fix
    assert [quota(changed(region=each)).limit for each in ("us-east-1", "us-west-2", "eu-west-1", "us-east-2")] == [
        5,
        5,
        5,
        1,
    ]
    assert quota(changed(region="eu-central-1", stream={"mib_per_second": 3})).verdict == "ok"


def test_a_price_that_the_region_does_not_have_is_said_with_the_one_that_stands_in():
    found = estimate(changed(region="eu-central-1"), prices())
    assert found.prices["endpoint_hour"].usd == 0.012
    assert (found.prices["nat_gb"].region, found.prices["nat_gb"].usd) == ("us-east-1", 0.045)
    (note,) = [each for each in found.notes if each.startswith("prices of us-east-1 stand in for eu-central-1")]
    assert "nat_gb" in note
    assert "endpoint_hour" not in note
    assert all(paid.date and paid.source for paid in found.prices.values())
    assert not any("stand in" in each for each in estimate(changed(), prices()).notes)


def test_pollers_are_paid_by_the_unit_of_ten_and_by_what_they_carry():
    few = changed(transform={"source": "mapping", "pollers": 40, "minimum_pollers": 11})
    assert lines(estimate(few, prices()))["provisioned pollers"] == pytest.approx(2 * 720 * 0.185)
    # 100,000 devices: 1,667 bundles of 25,000 bytes a second are 41.7 MB, over two units of 20.
    much = changed(transform={"source": "mapping", "pollers": 40}, load={"devices": 100_000})
    assert lines(estimate(much, prices()))["provisioned pollers"] == pytest.approx(3 * 720 * 0.185)


def test_transfer_between_zones_and_logs_are_in_the_bill():
    found = lines(estimate(changed(), prices()))
    topic = 1000 * 100 / 60 / 100 * 25_000 * 30 * 86_400 / 2**30
    assert found["cross-zone transfer"] == pytest.approx(topic * 2 / 3 * 0.02)
    invocations = 1000 * 100 / 60 / 100 * 30 * 86_400 / (16 + 2 / 3) / 5
    assert found["log ingestion"] == pytest.approx(invocations * 1500 / 2**30 * 0.5)


def test_storage_classes_are_in_the_bill_when_they_are_set_and_never_by_themselves():
    assert "storage classes" not in lines(estimate(changed(), prices()))
    tiered = estimate(changed(bucket={"intelligent_tiering_days": 0}), prices())
    objects, landed = 200 * 86_400 / 300 * 30, 1000 * 100 / 60 * 900 * 30 * 86_400 / 2**30 / 12
    saved = landed * (2 * (0.023 - 0.0125) + 9 * (0.023 - 0.004))
    expected = objects / 1000 * (0.01 + 12 * 0.0025) - saved
    assert lines(tiered)["storage classes"] == pytest.approx(expected)
    assert any("more than they save" in note for note in tiered.notes)
    large = estimate(changed(bucket={"intelligent_tiering_days": 0}, load={"metrics": 10}), prices())
    assert lines(large)["storage classes"] < 0
    small = estimate(changed(bucket={"glacier_ir_days": 90}, load={"devices": 100}), prices())
    assert any("under 128 KiB: no storage class accepts them" in note for note in small.notes)


def test_rows_that_athena_will_not_see_are_said():
    notes = estimate(changed(bucket={"glacier_days": 400}), prices()).notes
    assert any("Athena leaves older rows out" in note for note in notes)


def test_what_a_settings_file_of_before_goes_on_doing_is_said(tmp_path):
    old = tmp_path / "old.toml"
    old.write_text((ROOT / "deploy/cdk/tests/before/settings.toml").read_text())
    notes = "\n".join(estimate(load(old), prices()).notes)
    for said in (
        "two keys that differ in case",
        "Athena leaves older rows out",
        "begins with the organization",
        "than they save",
    ):
        assert said in notes
    assert estimate(load(SETTINGS), prices()).notes == []


def test_other_sources_and_what_stays_after_a_teardown_are_priced():
    other = {line.name: line.usd for line in estimate(changed(), prices()).alternatives}
    configured = other["as configured"]
    assert "a Pipe" not in other, "it is what is configured"
    # Three endpoints instead of one, and no Pipe; or 1 EPU, and neither.
    pipe, endpoint = lines(estimate(changed(), prices()))["Pipe"], 3 * 720 * 0.01
    assert other["a mapping on demand"] == pytest.approx(configured - pipe + 2 * endpoint - 0.1), "and the Pipe's alarm"
    assert other["a mapping with provisioned pollers"] < other["a mapping on demand"] + 133.2
    assert other["after make destroy"] == pytest.approx(3 * (0.204 * 720 + 50) + 400 + 1.4)


def test_dimensions_are_priced_beside_what_is_configured():
    without = estimate(changed(load=BUSY), prices())
    keyed = estimate(changed(load=BUSY, engine={"dimensions": True}), prices())
    priced = {line.name: line for line in without.alternatives}
    back = {line.name: line for line in keyed.alternatives}
    assert priced["with engine.dimensions"].usd == pytest.approx(keyed.total)
    assert back["without engine.dimensions"].usd == pytest.approx(without.total)
    assert "without engine.dimensions" not in priced
    assert "lines of 280 bytes, dimension rows included" in priced["with engine.dimensions"].how
    # 500 rows are 140,000 bytes: 28 steps of 5 KB instead of 69.
    less = 86.4e6 * (69 - 28) * 5120 / 2**30 * 0.029
    assert lines(without)["Firehose ingestion"] - lines(keyed)["Firehose ingestion"] == pytest.approx(less)
    assert keyed.total < without.total - less
    assert keyed.rates["gb_landed_per_month"] == pytest.approx(without.rates["gb_landed_per_month"])
    assert keyed.rates["active_partitions"] == without.rates["active_partitions"] / 10 * 11
    for elsewhere in ({"engine": {"path": "{orgKey}/{yyyy}/{MM}/{dd}/{HH}/"}}, {"path": "direct"}):
        found = estimate(changed(**elsewhere), prices()).alternatives
        assert not any("engine.dimensions" in line.name for line in found)


def test_the_table_can_be_printed_edited_and_read_again(tmp_path, capsys):
    assert main(["validate", "--show-prices"]) == 0
    table = tmp_path / "prices.toml"
    table.write_text(capsys.readouterr().out)
    assert prices(table) == prices()
    table.write_text(table.read_text().replace("us-east-1 = 0.029", "eu-west-1 = 0.03"))
    with pytest.raises(ConfigError, match=r"firehose_gb\.usd has no us-east-1, which stands in"):
        prices(table)


def test_environments_that_are_warm_and_snapshots_have_their_price():
    def line(name, **transform):
        found = estimate(changed(transform=transform), prices())
        return next((each.usd for each in found.cost if each.name == name), 0.0)

    assert line("provisioned concurrency") == line("snapshots") == 0
    month = 30 * 86_400
    assert line("provisioned concurrency", provisioned=3) == pytest.approx(3 * month * 0.0000033334)
    dear = line("provisioned concurrency", provisioned=3, architecture="x86_64", memory_mb=2048)
    assert dear == pytest.approx(3 * 2 * month * 0.0000041667)
    assert line("snapshots", snap_start=True) == pytest.approx(month * 0.0000015046 + 6 * 360 * 0.0001397998)


def test_the_brakes_of_a_gradual_delivery_are_alarms_of_the_bill():
    assert alarms(changed(transform={"delivery": "linear"})) == alarms(changed()) + 2
