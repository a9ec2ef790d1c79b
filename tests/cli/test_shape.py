"""shape: what the rules of a configuration would do, before they do it."""

import json

import pytest

RULES = """
[engine]
org_id = "acme"
[[engine.rules]]
name = "no-idle"
when.metric = "{metric}"
drop = true
[[engine.rules]]
name = "no-scope"
leave_out = ["scope"]
[[engine.rules]]
name = "nothing"
when.metric = "no such metric"
drop = true
"""


@pytest.fixture
def config(tmp_path):
    def write(metric):
        path = tmp_path / "lmstream.toml"
        path.write_text(RULES.replace("{metric}", metric))
        return path

    return write


def rows(cli, target, *more):
    return [
        json.loads(line) for line in cli("inspect", target, "--rows", "--json", "--limit", 9999, *more).out.splitlines()
    ]


def test_rows_and_bytes_are_those_that_a_run_would_make(cli, bundles, config):
    folder, _ = bundles(1)
    (target,) = folder.iterdir()
    before = rows(cli, target, "--org", "acme")
    metric = before[0]["metric"]
    path = config(metric)
    after = rows(cli, target, "--config", path)
    said = cli("shape", target, "--config", path, "--json", "--rate", 1000)
    found = json.loads(said.out)
    assert said.code == 0
    assert (found["before"]["rows"], found["rules"][-1]["rows"]) == (len(before), len(after))
    dropped = sum(row["metric"] == metric for row in before)
    assert [(each["rule"], each["dropped"], each["changed"]) for each in found["rules"]] == [
        ("no-idle", dropped, 0),
        ("no-scope", 0, len(after)),
        ("nothing", 0, 0),
    ]
    assert all("scope" not in row for row in after)
    assert found["saved"]["bytes"] == found["before"]["bytes"] - found["rules"][-1]["bytes"] > 0
    assert sum(each["usd_month"] for each in found["rules"]) == pytest.approx(found["saved"]["usd_month"])
    twice = json.loads(cli("shape", target, "--config", path, "--json", "--rate", 2000).out)
    assert twice["saved"]["usd_month"] == pytest.approx(2 * found["saved"]["usd_month"])


def test_people_see_a_table_by_rule_and_the_sum(cli, bundles, config):
    folder, _ = bundles(2)
    said = cli("shape", min(folder.iterdir()), "--config", config("x"))
    assert [line.split()[0] for line in said.out.splitlines()[2:]] == ["(without", "no-idle", "no-scope", "nothing"]
    assert "USD a month less" in said.err


def test_a_transform_of_ones_own_is_tried_after_the_rules(cli, bundles, config, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "acme_halves.py").write_text(
        "class Transform:\n    def __init__(self, settings): ...\n    def apply(self, rows): return rows[::2]\n"
    )
    folder, _ = bundles(1)
    (target,) = folder.iterdir()
    path = config("x")
    path.write_text(path.read_text().replace('"acme"', '"acme"\ntransform = "acme_halves"', 1))
    said = cli("shape", target, "--config", path, "--json")
    found = json.loads(said.out)
    assert [each["rule"] for each in found["rules"]][-1] == "acme_halves"
    points, last = found["points"], found["rules"][-1]
    assert (found["before"]["rows"], last["rows"], last["dropped"]) == (points, (points + 1) // 2, points // 2)
    seen = cli("inspect", target, "--rows", "--json", "--limit", 9999, "--config", path)
    assert len(seen.out.splitlines()) == last["rows"]
    assert "by rule acme_halves" in seen.err
    path.write_text('[engine]\norg_id = "acme"\ntransform = "acme_halves"\n')
    assert json.loads(cli("shape", target, "--config", path, "--json").out)["rules"][0]["rows"] == last["rows"]


def test_without_rules_there_is_nothing_to_try(cli, bundles):
    folder, _ = bundles(1)
    said = cli("shape", next(folder.iterdir()), "--org", "acme")
    assert (said.code, "has no rules" in said.err) == (2, True)


def test_what_is_not_a_bundle_is_counted_and_the_exit_code_says_so(cli, bundles, config, tmp_path):
    folder, _ = bundles(1)
    target = tmp_path / "some.jsonl"
    target.write_bytes(next(folder.iterdir()).read_bytes().replace(b"\n", b"") + b'\n{"no":"bundle"}\n')
    said = cli("shape", target, "--config", config("x"), "--json")
    assert (said.code, json.loads(said.out)["undecodable"]) == (1, 1)


def test_inspect_and_cases_go_through_the_rules(cli, bundles, config):
    folder, _ = bundles(1)
    (target,) = folder.iterdir()
    path = config(rows(cli, target, "--org", "acme")[0]["metric"])
    assert "by rule no-idle" in cli("inspect", target, "--rows", "--config", path).err
    assert cli("test", "--record", target, "--name", "one", "--config", path).code == 0
    assert cli("test", "--config", path).code == 0
    path.write_text(path.read_text().replace("drop = true", "keep = true", 1))
    assert cli("test", "--config", path).code == 1


def test_with_dimensions_shape_counts_their_rows_once_and_inspect_shows_them(cli, bundles, tmp_path):
    folder, _ = bundles(1)
    (target,) = folder.iterdir()
    path = tmp_path / "dimensions.toml"
    path.write_text('[engine]\norg_id = "acme"\ndimensions = true\n')
    lines = rows(cli, target, "--config", path)
    dimensions = [line for line in lines if "dimension" in line]
    landed = [line for line in lines if "dimension" not in line]
    assert {each["dimension"] for each in dimensions} == {"resource", "scope", "attributes"}
    assert all("resource" not in row and row["resourceKey"] for row in landed)
    found = json.loads(cli("shape", target, "--config", path, "--json").out)
    (effect,) = found["rules"]
    assert (effect["rule"], effect["changed"], effect["rows"]) == ("(dimensions)", len(landed), len(landed))
    of_rows, of_dimensions = (
        sum(len(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()) + 1 for line in of)
        for of in (landed, dimensions)
    )
    assert effect["bytes"] == of_rows + of_dimensions
    twice = tmp_path / "twice.jsonl"
    twice.write_text(2 * (json.dumps(json.loads(target.read_bytes())) + "\n"))
    (effect,) = json.loads(cli("shape", twice, "--config", path, "--json").out)["rules"]
    assert effect["bytes"] == 2 * of_rows + of_dimensions
