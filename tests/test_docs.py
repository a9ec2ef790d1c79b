"""The papers say what the code does: examples run, names exist, links resolve. As a script: writes docs/runbook.md."""

import contextlib
import io
import json
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from lmstream import Engine, Record, Settings, __version__, cli
from lmstream.cli import main
from lmstream.config import load
from lmstream.errors import REASONS, LmstreamError
from lmstream.observability import runbook
from lmstream.partitioning import firehose_prefix, jq_query
from lmstream.rules import Conditions, Mask, Rule, Scale
from lmstream.rules.form import Field

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DELIVERY = (ROOT / "docs/delivery.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "benchmarks/README.md", *(ROOT / "docs").rglob("*.md")])
HEAD = """# Runbook

What each alarm and each code means, what to look at, and how to fix it. The same text is in every installation:
`lmstream explain LMS-3005`, `lmstream explain time-to-data-loss`, and every error says which.

Generated from `src/lmstream/errors` and `src/lmstream/observability/runbook.toml` by `.venv/bin/python tests/test_docs.py`; a test fails
when they differ. Codes are for people and never change their meaning; reasons are the names in dead letters, counts and messages.

First, whatever it is: `lmstream validate --connect` asks everything that the configuration names, `lmstream lag` says how long there
is, `/statusz` of a running host says what it said last ([operations.md](operations.md)). Nothing that is not settled is ever
committed: stopping and starting again loses nothing.
"""
TAIL = """
## Counted and not refused

`record.tombstone`: a record without a value, acknowledged. Of data points that became rows: `device.unknown` and
`datasource.unknown` (the row says `unknown`), `enum.name` and `enum.unknown` (an enum as its name instead of its number, or a
number that OTLP does not have), `time.record` (the time is that of the Kafka record), `attribute.empty` (an attribute value of
unknown members alone), and parts that were left out of the row because they are not finite, out of range, of a wrong type,
missing or too many: `part.nan`, `part.infinite`, `part.range`, `part.type`, `part.missing`, `part.bound`, `part.limit`. Of what
held nothing to make rows of: `metric.empty` (a metric without data points), `bundle.empty` (a bundle without any) and
`member.unknown` (a member that OTLP metrics do not know, where points should be). Of rows that a rule scales: `scale.inexact` (a value
that cannot be scaled exactly keeps its unit). They are in the last line of a run, in
`/statusz` and in `lmstream_points_noted_total`.
"""


def _linked(code):
    return f"[{code}](#{code.lower()})"


def runbook_page():
    lines = [HEAD, "## Alarms", "", "| alarm | of | means |", "|---|---|---|"]
    for each in runbook.alarms():
        first = each.means.partition(". ")[0].rstrip(".").replace("|", "\\|")
        lines.append(f"| [{each.name}](#{each.anchor}) | {each.also.removeprefix('alarm of ')} | {first} |")
    lines += ["", "## Codes", "", "| code | reason | meaning |", "|---|---|---|"]
    lines += [f"| [{c.name}](#{c.anchor}) | `{c.also}` | {REASONS[c.also].meaning} |" for c in runbook.codes()]
    moved = [(code, *about) for code, about in runbook.RETIRED.items() if REASONS[about[0]].code != code]
    if moved:
        lines += ["", "Codes that older versions wrote:", "", "| code | reason | now | why |", "|---|---|---|---|"]
    lines += [f"| {code} | `{reason}` | {_linked(REASONS[reason].code)} | {why} |" for code, reason, why in moved]
    lines += ["", "## What to do about alarms", ""]
    for each in runbook.alarms():
        lines += section(each)
    for title in runbook.GROUPS.values():
        lines += [f"## {title}", ""]
        for each in runbook.codes():
            if runbook.group(each.name) == title:
                lines += section(each)
    return "\n".join(lines).rstrip() + "\n" + TAIL


def section(each):
    title = f"`{each.also}`: " if each.also in REASONS else ""
    lines = [f"### {each.name}", "", f"{title}{each.means}", ""]
    for name, items in (("Look at", each.look), ("Fix", each.fix)):
        if items:
            lines += [f"**{name}**", "", *(f"- {item}" for item in items), ""]
    return lines


def blocks(page, language):
    """Code blocks of one language, also those inside lists."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", page, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def code_of(page):
    """All text of a page that is set as code."""
    fenced = re.findall(r"^ *```\w*\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^ *```.*?^ *```$", "", page, flags=re.DOTALL | re.MULTILINE)
    return [*fenced, *re.findall(r"`([^`\n]+)`", rest)]


VERBS = sorted(
    {
        v
        for page in PAGES
        for c in code_of(page.read_text("utf-8"))
        for v in re.findall(r"(?<!from )lmstream ([a-z]+)", c)
    }
)


def test_the_python_of_the_readme_runs_as_written(capsys):
    (example,) = blocks(README, "python")
    exec(compile(example, "README.md", "exec"), {})
    line, path = capsys.readouterr().out.strip().splitlines()[0::2][:2]
    assert line.startswith('{"orgId":"acme"')
    assert f"# {path}" in example


def test_the_configuration_of_the_readme_loads(tmp_path):
    (example,) = blocks(README, "toml")
    path = tmp_path / "lmstream.toml"
    path.write_text(example)
    config = load(path, env={})
    assert (config.need("source").name, config.need("sink").name) == ("kafka", "firehose")
    assert tomllib.loads(example)["engine"]["org_id"] == config.engine.org_id


def test_prefix_and_query_of_the_readme_are_the_default_ones():
    assert f" {firehose_prefix(Settings())}\n" in README
    assert f" {jq_query(Settings())}\n" in README


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_in_the_papers_exists(verb, capsys):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main([verb, "--help"]) == 0, said.getvalue()
    assert f"lmstream {verb}" in capsys.readouterr().out


def test_the_readme_names_every_command(capsys):
    assert main(["--help"]) == 0
    listed = set(re.findall(r"^[│ ]*([a-z]+)  ", capsys.readouterr().out, re.MULTILINE))
    assert {"demo", "run", "verify"} <= listed
    assert listed <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_of_a_command_in_the_papers_exists(verb, capsys):
    for below in ("", *(name.partition(" ")[2] for name in cli.verbs() if name.startswith(f"{verb} "))):
        assert main([verb, *filter(None, [below]), "--help"]) == 0
    known = set(re.findall(r"--[a-z0-9-]+", capsys.readouterr().out)) | {"--help"}
    for page in PAGES:
        for code in code_of(page.read_text("utf-8")):
            for call in re.findall(rf"lmstream {verb}\b([^\n|;]*)", code):
                assert set(re.findall(r"(?<!\S)--[a-z0-9-]+", call)) <= known, (page.name, call)


def test_every_make_target_in_the_papers_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for code in code_of(page.read_text("utf-8")):
            assert set(re.findall(r"(?<!\S)make ([a-z-]+)", code)) <= targets, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


def test_the_page_of_rules_names_every_key_and_every_field_that_can_be_left_out():
    text = (ROOT / "docs/shaping.md").read_text("utf-8")
    named = set(re.findall(r"`(?:mask\.)?(\w+)", text))
    for struct in (Rule, Conditions, Mask, Scale):
        assert set(struct.__struct_fields__) <= named, struct
    assert set(get_args(Field)) <= named


def test_the_index_names_every_page():
    index = (ROOT / "docs/README.md").read_text("utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.name == "README.md" or f"({page.relative_to(ROOT / 'docs')})" in index


def test_the_menu_of_the_site_has_every_page():
    menu = (ROOT / "mkdocs.yml").read_text("utf-8").partition("nav:")[2]
    named = set(re.findall(r": ([\w-]+\.md)$", menu, re.MULTILINE))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= named, "add it to mkdocs.yml"


def test_the_runbook_is_what_the_code_says():
    assert (ROOT / "docs/runbook.md").read_text("utf-8") == runbook_page()


def test_every_code_has_one_section_that_says_what_to_do():
    codes = [why.code for why in REASONS.values()]
    assert len(set(codes)) == len(codes)
    written = json.loads((ROOT / "src/lmstream/errors/reasons.json").read_text("utf-8"), object_pairs_hook=list)
    assert len(written) == len(REASONS)  # no name stands twice
    sections = runbook.codes()
    assert sorted(codes) == [each.name for each in sections]
    for each in sections:
        assert each.look, each.name
        assert each.fix, each.name
        assert runbook_page().count(f"\n### {each.name}\n") == 1


def test_the_runbook_has_no_section_of_a_code_or_a_group_that_is_not():
    written = tomllib.loads((ROOT / "src/lmstream/observability/runbook.toml").read_text("utf-8"))
    assert set(written) == {"alarms", "codes", "common"}
    assert set(written["codes"]) == set(REASONS)
    for prefix in written["common"]:
        assert any(why.code.startswith(prefix) for why in REASONS.values()), prefix
    for each in [*written["alarms"].values(), *written["codes"].values(), *written["common"].values()]:
        assert set(each) <= {"by", "means", "look", "fix"}


def test_every_alarm_has_a_section_and_points_there():
    snapshots = ("operations.json", "lake-operations.json")
    made = "".join((ROOT / "deploy/cdk/tests/snapshots" / each).read_text("utf-8") for each in snapshots)
    named = set(re.findall(r"Runbook: docs/runbook\.md#([a-z-]+)\"", made))
    alarms = {each.name: each for each in runbook.alarms()}
    # The snapshot is of a Pipe that is not enabled: a batch is given up by a mapping only, and nothing is read yet.
    named |= {"given-up", "silence", "retention", "lag", "unread"}
    assert {name for name, each in alarms.items() if "CloudWatch" in each.also} == named
    for name, each in alarms.items():
        assert all((each.means, each.look, each.fix)), name
        assert f"\n### {name}\n" in (ROOT / "docs/runbook.md").read_text("utf-8")


def test_every_alarm_that_a_section_sends_to_exists():
    names = {each.name for each in runbook.alarms()}
    for name in re.findall(r"alarms? `([a-z-]+)`", runbook_page()):
        assert name in names, name


@pytest.mark.parametrize("reason", REASONS)
def test_every_error_says_where_to_read_on(reason):
    error = LmstreamError(reason, "what was seen.")
    assert str(error).endswith(f" More: lmstream explain {error.code}")
    assert ".." not in str(error)
    assert runbook.find(error.code).also == reason


def test_every_code_and_reason_in_the_papers_is_one_of_ours():
    codes = {why.code for why in REASONS.values()} | set(runbook.RETIRED)
    for page in PAGES:
        assert set(re.findall(r"LMS-\d{4}", page.read_text("utf-8"))) <= codes, page.name


def test_every_test_that_the_fault_list_names_exists():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", DELIVERY)
    assert len(named) > 40
    for file, name in named:
        source = (ROOT / "tests" / file).read_text("utf-8")
        assert re.search(rf"^((async )?def|class) {name}\b|^{name} = ", source, re.MULTILINE), f"{file}::{name}"


def test_every_sentence_of_the_promises_names_what_would_fail_if_it_were_broken():
    promises = DELIVERY.partition("\n## What is promised\n")[2].partition("\nRecords from files")[0]
    found = re.split(r"^\d\. ", promises, flags=re.MULTILINE)[1:]
    assert len(found) >= 6
    for promise in found:
        title, *sentences = re.split(r"^   - ", promise, flags=re.MULTILINE)
        assert ("*Tested:*" in title) is not bool(sentences), title
        for each in sentences or [title]:
            sentence, *tested = each.split("*Tested:*")
            assert len(tested) == 1, each
            assert "::" in tested[0], each
            text = re.sub(r"`[^`]*`|\([^()]*\)", "", sentence).strip().removeprefix("**").removesuffix("**")
            assert len(re.findall(r"[.;](?=\s|$)", text.replace("**", ""))) == 1, f"more than one sentence: {sentence}"


def test_every_fault_is_marked():
    faults = DELIVERY.partition("\n## Faults\n")[2]
    rows = [line for line in faults.splitlines() if line.startswith("| ") and not line.startswith("| fault ")]
    assert len(rows) > 50
    for row in rows:
        mark = row.rstrip("| ").rpartition(" | ")[2]
        assert "tested" in mark or "not yet" in mark, row
        assert ("::" in mark) == ("tested" in mark), row


def test_the_changelog_has_this_version():
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## \[(Unreleased|{re.escape(__version__)})\]", changes, re.MULTILINE)
    assert __version__ in changes


def test_the_ruff_of_pre_commit_is_the_locked_one():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    locked = re.search(r"^ruff==(\S+)", (ROOT / "requirements/dev.lock").read_text("utf-8"), re.MULTILINE)
    assert f"rev: v{locked[1]} " in hooks


def test_nobody_is_sent_to_an_index_for_the_name_lmstream():
    """It is not ours there: whoever takes it would be installed by our own messages."""
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.toml"), *(ROOT / "src").rglob("*.json"), *PAGES]
    for path in files:
        assert not re.search(
            r"(pip|uv|uvx|pipx)[ \w]* (install |run |--from )?['\"]?lmstream\\?\[", path.read_text("utf-8")
        ), path


def test_actions_are_pinned_by_commit():
    files = sorted((ROOT / ".github/workflows").glob("*.yml"))
    used = [each for file in files for each in re.findall(r"uses: (\S+)(.*)", file.read_text("utf-8"))]
    assert len(used) > len(files)
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r"  # v[\d.]+", comment), comment


def test_the_audit_of_dependencies_is_strict_and_pinned_with_hashes():
    steps = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    (audit,) = re.findall(r"^ +(pip-audit .*)$", steps, re.MULTILINE)
    assert {"--strict", "--require-hashes", "--disable-pip"} <= set(audit.split())
    installs = re.findall(r"pip install (.*)$", steps, re.MULTILINE)
    assert installs
    for install in installs:
        assert "--require-hashes" in install
        lock = (ROOT / install.split("-r ")[1].strip()).read_text("utf-8")
        assert "pip-audit==" in lock
        pinned = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
        assert all(re.match(r"[\w.-]+==\S+ .*\\$", line) for line in pinned), pinned
        assert lock.count("--hash=sha256:") >= len(pinned)


TAKEN = {"7": 7, '"7"': 7, "7.0": 7, '"7.0"': 7, "1e3": 1000, '"1e3"': 1000}
REFUSED = ["true", '" 7"', '"+7"', '"007"', '"1_0"', '"0x10"', "7.5", '"null"']


def test_integers_are_read_as_decision_0004_says():
    sent = [*TAKEN, *REFUSED, str(2**63)]
    points = ",".join(f'{{"timeUnixNano":"1715263558360000000","asInt":{text}}}' for text in sent)
    metric = f'{{"name":"m","gauge":{{"dataPoints":[{points}]}}}}'
    value = f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}'.encode()
    out = Engine(Settings(org_id="acme")).fan_out(Record(topic="t", partition=0, offset=0, value=value))
    assert [json.loads(line)["value"] for line in out.ndjson().splitlines()] == list(TAKEN.values())
    assert [reason for _, reason in out.rejected] == ["point.type"] * len(REFUSED) + ["value.range"]
    page = (ROOT / "docs/decisions/0004-lax-decoding.md").read_text("utf-8")
    assert all(f"`{text}`" in page for text in [*TAKEN, *REFUSED])


if __name__ == "__main__":
    (ROOT / "docs/runbook.md").write_text(runbook_page(), encoding="utf-8")
