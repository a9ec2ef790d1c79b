"""Alarms and dashboard name only metrics that are served, with labels that they have; the verb prints them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml

from lmstream.cli import main
from lmstream.observability import runbook
from lmstream.observability.metrics_catalogue import CATALOGUE, PROOF, SERVED

ROOT = Path(__file__).parents[2]
FILES = ROOT / "src/lmstream/observability"
RULES = (FILES / "rules.yaml").read_text("utf-8")
(GROUP,) = yaml.safe_load(RULES)["groups"]
ALARMS = {rule["annotations"]["runbook_url"].partition("#")[2]: rule for rule in GROUP["rules"]}
PANELS = json.loads((FILES / "dashboard.json").read_text("utf-8"))["panels"]
LABELS = {metric.name: {*metric.labels, "instance", "job"} for metric in SERVED} | {
    f"{metric.name}_bucket": {*metric.labels, "le", "instance", "job"}
    for metric in SERVED
    if metric.kind == "histogram"
}
LABELS |= {metric.name: {*metric.labels, "instance", "job"} for metric in PROOF}
PROMTOOL = shutil.which(os.environ.get("LMSTREAM_TEST_PROMTOOL", "promtool"))
EXPRESSIONS = {
    **{name: rule["expr"] for name, rule in ALARMS.items()},
    **{
        f"{panel['title']}: {target['legendFormat']}": target["expr"].replace("$__rate_interval", "5m")
        for panel in PANELS
        for target in panel.get("targets", ())
    },
}


def metrics_of(expression):
    found = set()

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.add(node.vector_selector.name)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_metric_and_label_that_is_named_exists(name):
    metrics = metrics_of(EXPRESSIONS[name])
    assert metrics
    assert metrics <= LABELS.keys()
    grouped = {
        label for group in re.findall(r"\b(?:by|on) \(([\w, ]+)\)", EXPRESSIONS[name]) for label in group.split(", ")
    }
    # What is made a scalar has no labels that anything could be matched by.
    for metric in metrics_of(re.sub(r" \+ scalar\([^()]*\([^()]*\)\)", "", EXPRESSIONS[name])):
        assert grouped <= LABELS[metric], metric


def test_lag_is_no_trouble_before_a_window_has_ended():
    assert metrics_of(EXPRESSIONS["lag"]) == {"lmstream_consumer_lag_seconds", "lmstream_settles_within_seconds"}


def test_the_parser_sees_metrics_and_refuses_what_is_no_expression():
    assert metrics_of("sum(rate(a_total[5m])) / on (x) max(b) > 1 or absent(c)") == {"a_total", "b", "c"}
    with pytest.raises(ValueError, match=r"unexpected|unclosed"):
        promql_parser.parse("sum(rate(a_total[5m])")


@pytest.mark.parametrize("rule", ALARMS.values(), ids=ALARMS)
def test_each_label_in_a_sentence_is_one_that_the_expression_keeps(rule):
    kept = {"instance", *(set(re.findall(r"by \((\w+)\)", rule["expr"])))}
    bare = not re.search(r"\b(sum|min|max|absent|quantile)\b", rule["expr"])
    for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
        assert label in kept
        assert bare or f"by ({label})" in rule["expr"]


def test_each_alarm_has_its_section_in_the_runbook_and_each_section_its_alarm():
    written = {each.name for each in runbook.alarms() if "Prometheus" in each.also}
    assert set(ALARMS) == written
    for name, rule in ALARMS.items():
        assert rule["alert"] == "Lmstream" + "".join(word.capitalize() for word in name.split("-"))
        assert runbook.find(rule["alert"]).name == name
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_the_commands_print_the_files(capsys):
    assert main(["telemetry", "prometheus", "--runbook", "docs/runbook.md"]) == 0
    assert capsys.readouterr().out == RULES
    assert main(["telemetry", "grafana"]) == 0
    assert json.loads(capsys.readouterr().out)["panels"] == PANELS


def test_the_list_has_the_whole_catalogue(capsys):
    assert main(["telemetry", "ls", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == [metric.name for metric in CATALOGUE]
    assert main(["telemetry", "ls"]) == 0
    told = capsys.readouterr().out
    assert all(metric.name in told for metric in SERVED)


@pytest.mark.parametrize("page", ["https://wiki.example/book", 'a "quoted" \\ page'])
def test_every_rule_links_to_the_runbook_that_the_flag_names(page, capsys):
    assert main(["telemetry", "prometheus", "--runbook", page]) == 0
    (group,) = yaml.safe_load(capsys.readouterr().out)["groups"]
    assert [rule["annotations"]["runbook_url"] for rule in group["rules"]] == [f"{page}#{name}" for name in ALARMS]


def test_every_panel_asks_the_data_source_that_is_chosen_and_each_of_its_queries_is_named():
    charts = [panel for panel in PANELS if panel["type"] == "timeseries"]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in charts:
        assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {"${source}"}
        assert [each["refId"] for each in panel["targets"]] == list("ABCDE"[: len(panel["targets"])])


def test_panels_do_not_lie_over_each_other():
    taken = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


STORY = """
rule_files: [RULES]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'lmstream_time_to_data_loss_seconds{topic="t",partition="0"}', values: '90000x30'}
      - {series: 'lmstream_topic_retention_seconds{topic="t"}', values: '604800x30'}
      - {series: 'lmstream_bundles_consumed_total', values: '0+1000x30'}
      - {series: 'lmstream_dead_letters_total', values: '0+2x30'}
      - {series: 'lmstream_records_without_row_total{topic="stale"}', values: '0+9x30'}
      - {series: 'lmstream_topic_rows_total{topic="stale"}', values: '0x30'}
      - {series: 'lmstream_records_without_row_total{topic="partly"}', values: '0+9x30'}
      - {series: 'lmstream_topic_rows_total{topic="partly"}', values: '0+1x30'}
      - {series: 'lmstream_records_without_row_total{topic="silent"}', values: '7x30'}
      - {series: 'lmstream_topic_rows_total{topic="silent"}', values: '0x30'}
      - {series: 'lmstream_build_info{version="1"}', values: '1x30'}
      - {series: 'lmstream_ready{instance="a"}', values: '1x30'}
      - {series: 'lmstream_tls_cert_expiry_timestamp_seconds', values: '604800x300'}
    alert_rule_test:
      - {eval_time: 20m, alertname: LmstreamTimeToDataLoss, exp_alerts: [EXPECT_LOSS]}
      - {eval_time: 20m, alertname: LmstreamDeadLetters, exp_alerts: [EXPECT_LETTERS]}
      - {eval_time: 20m, alertname: LmstreamSilence, exp_alerts: []}
      - {eval_time: 9m, alertname: LmstreamNoRows, exp_alerts: []}
      - {eval_time: 20m, alertname: LmstreamNoRows, exp_alerts: [EXPECT_ROWS]}
      - {eval_time: 20m, alertname: LmstreamDown, exp_alerts: []}
      - {eval_time: 20m, alertname: LmstreamNotReady, exp_alerts: []}
"""


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: set LMSTREAM_TEST_PROMTOOL")
def test_prometheus_itself_takes_the_rules_and_raises_them(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    story = STORY.replace("RULES", str(path))
    texts = {
        "EXPECT_LOSS": (
            "page",
            "time-to-data-loss",
            "retention will delete undelivered records of t: less than a quarter of it is left",
        ),
        "EXPECT_ROWS": (
            "ticket",
            "no-rows",
            "records of stale arrive, and none produced a row for 15 minutes",
        ),
        "EXPECT_LETTERS": ("ticket", "dead-letters", "0.2% of the records are dead-lettered"),
    }
    for name, (severity, alarm, summary) in texts.items():
        topic = {"time-to-data-loss": {"topic": "t"}, "no-rows": {"topic": "stale"}}
        labels = {"severity": severity} | topic.get(alarm, {})
        annotations = {"summary": summary, "runbook_url": f"docs/runbook.md#{alarm}"}
        story = story.replace(name, json.dumps({"exp_labels": labels, "exp_annotations": annotations}))
    (tmp_path / "story.yaml").write_text(story)
    for command in (["check", "rules", path], ["test", "rules", tmp_path / "story.yaml"]):
        done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_shows_every_metric_of_the_proof_but_single_offsets():
    shown = set().union(*(metrics_of(each) for name, each in EXPRESSIONS.items() if name not in ALARMS))
    assert {metric.name for metric in PROOF} - shown == {"lmstream_offset_proved"}


def test_no_two_panels_overlap_and_ids_are_of_one_each():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in PANELS)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
