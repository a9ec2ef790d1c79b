"""What the smoke test makes of what it sees. The run itself is `make smoke-rehearsal`, or needs an account."""

import pytest

from lmstream.deployment import load
from lmstream.deployment.defaults import ROWS_PATH
from lmstream.deployment.prices import Rates, prices
from smoke import judge
from smoke.plan import SOURCES, arguments
from smoke.spent import Usage, spent
from smoke.teardown import remove
from smoke.world import World

KEY = "rows/smoke/CpuUsage/2026/11/28/16/"
NEEDED = ["--account", "111122223333", "--cluster", "arn:aws:kafka:us-west-2:111122223333:cluster/c/1-1"]
NEEDED += ["--secret", "arn:aws:secretsmanager:us-west-2:111122223333:secret:s-AbCdEf", "--topic", "t"]
NEEDED += ["--bootstrap", "b:9094", "--cert", "c.pem", "--key", "k.pem"]


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_each_source_makes_settings_that_deploy(tmp_path, source):
    plan, _ = arguments([*NEEDED, "--source", source])
    path = tmp_path / "settings.toml"
    path.write_text(plan.settings())
    made = load(path)
    assert (made.name, made.account, made.engine.path) == (plan.name, "111122223333", ROWS_PATH)
    assert made.transform.enabled
    assert (made.transform.source, made.transform.pollers > 0) == (
        source.replace("pollers", "mapping"),
        source == "pollers",
    )
    assert {made.bucket_name(each) for each in ("metrics", "results")} == {
        plan.bucket("metrics"),
        plan.bucket("results"),
    }


@pytest.mark.parametrize("missing", range(0, len(NEEDED), 2))
def test_a_run_in_aws_is_not_begun_without_all_it_needs(missing, capsys):
    with pytest.raises(SystemExit) as stopped:
        arguments(NEEDED[:missing] + NEEDED[missing + 2 :])
    assert stopped.value.code == 2
    assert f"a run in AWS needs {NEEDED[missing]}" in capsys.readouterr().err


def test_nothing_is_removed_that_a_smoke_test_did_not_make(tmp_path, capsys):
    with pytest.raises(SystemExit):
        arguments(["--account", "111122223333", "--remove", "lmstream"])
    assert "only what begins with smoke-" in capsys.readouterr().err
    plan, _ = arguments(NEEDED)
    object.__setattr__(plan, "name", "lmstream")
    with pytest.raises(SystemExit, match="lmstream: only what begins with smoke-"):
        remove(World(plan, tmp_path))


def test_an_appended_hour_is_seen():
    assert judge.prefix(ROWS_PATH, [f"{KEY}a.json.gz"]).verdict == "holds"
    # What an emulator makes of the prefix, and what one reading of AWS's page would.
    wrong = judge.prefix(ROWS_PATH, [f"{KEY}a.json.gz", f"{KEY}2026/11/28/17/b.json.gz"])
    assert (wrong.verdict, "1 of 2 objects" in wrong.said) == ("fails", True)
    assert judge.prefix(ROWS_PATH, []).verdict == "fails"


def test_a_partial_answer_may_be_read_both_ways_but_may_lose_nothing():
    once, twice = {"a": 1, "b": 1}, {"a": 2, "b": 1}
    assert judge.partial(once, lost=0, letters=3, poison=3).said.startswith("only what the answer named came again")
    assert judge.partial(twice, lost=0, letters=3, poison=3).verdict == "holds"
    assert judge.partial(once, lost=1, letters=3, poison=3).verdict == "fails"
    assert judge.partial(once, lost=0, letters=2, poison=3).verdict == "fails"


def test_a_query_that_ends_and_a_key_that_is_folded_are_both_wrong():
    spelled = {"Location": "upper", "location": "lower"}
    assert judge.keys(["upper", "lower"], spelled, "SUCCEEDED", "").verdict == "holds"
    assert judge.keys([None, "lower"], spelled, "SUCCEEDED", "").said == "Location is None"
    ended = judge.keys([None, None], spelled, "FAILED", "HIVE_CURSOR_ERROR: Duplicate key")
    assert (ended.verdict, "Duplicate key" in ended.said) == ("fails", True)


def test_rows_are_each_there_once():
    assert judge.rows({"a": 2}, {"a": (2, 2)}).verdict == "holds"
    assert judge.rows({"a": 2}, {"a": (3, 2)}).verdict == "fails"
    assert judge.rows({"a": 2}, {}).verdict == "fails"


def test_what_a_mapping_may_report_depends_on_its_pollers():
    assert judge.report("pollers", ["ReportBatchItemFailures"], "").verdict == "holds"
    assert judge.report("pollers", [], "").verdict == "fails"
    assert judge.report("mapping", [], "Unsupported").said.endswith("refused: Unsupported")
    assert judge.report("mapping", ["ReportBatchItemFailures"], "").verdict == "fails"


def test_a_question_that_was_forgotten_fails_the_run():
    answers = [judge.unasked(name, "no account") for name in judge.QUESTIONS]
    assert not judge.failed(answers)
    assert judge.failed(answers[1:])
    assert judge.failed([*answers[1:], judge.Answer(answers[0].question, "fails", "")])
    assert judge.table(answers).count("not asked") == len(judge.QUESTIONS)


def test_the_bill_is_of_what_was_counted():
    rates = Rates(**{name: paid.usd for name, paid in prices().at("us-west-2").items()})
    usage = Usage(
        source="pollers",
        hours=2,
        records=10,
        bytes=10 * 5121,
        objects=1000,
        event_bytes=0,
        invocations=0,
        scanned=(1, 2 * 10**12),
    )
    lines = {line.name: line.usd for line in spent(usage, rates)}
    assert lines["provisioned pollers"] == pytest.approx(2 * 0.185)
    assert lines["objects"] == pytest.approx(0.010)
    assert lines["Firehose"] == pytest.approx((10 * 10_240 * 0.029 + 51_210 * 0.02) / 2**30)
    assert lines["Athena"] == pytest.approx((2e12 + 1e7) / 2**40 * 5), "a query is 10 MB at least"
    assert "Pipe" not in lines
