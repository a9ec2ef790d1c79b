"""The reference of the configuration: every setting is in it with all that there is to say, and the page is what it prints."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft7Validator

from lmstream.config import load
from lmstream.config.plugins import PARTS, known, module_of
from lmstream.config.reference import COSTS, sections, settings
from lmstream.config.reference_page import anchor, page
from lmstream.config.schema import NAME, schema

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = tomllib.loads((DOCS / "lmstream.example.toml").read_text("utf-8"))
FOUND = sections()
EVERY = settings(FOUND)
SCHEMA = Draft7Validator(schema())


@pytest.mark.parametrize("each", EVERY, ids=lambda each: f"{each.key} {'/'.join(each.of)}")
def test_a_setting_says_what_it_is_its_unit_what_a_change_costs_and_where_its_limit_comes_from(each):
    assert len(each.what) > 10
    assert each.what.endswith(".")
    assert each.costs
    assert set(each.costs) <= set(COSTS)
    assert each.costs == ("nothing",) or "nothing" not in each.costs
    if each.type.startswith(("integer", "number")):
        assert each.unit
    # A lower bound of 0 or 1 is in the nature of the thing; every other one has a reason.
    bound = re.search(r"at most|at least (?!0\b|1\b)", each.type)
    assert bool(each.limit) or not bound


def test_no_setting_is_left_out():
    """Counted by the configuration itself: `config show` has them all."""
    there = {(each.key, name) for each in EVERY for name in each.of or ("",)}
    config = load(env={})
    tables = {
        "engine",
        "breaker",
        "delivery",
        "rolling",
        "runtime",
        "run",
        "endpoints",
        "logs",
        "telemetry",
        "function",
    }
    for table in tables:
        for name in msgspec.to_builtins(getattr(config, table)):
            key = f"{table.replace('function', 'lambda')}.{name}"
            assert (key, "") in there or any(each.startswith(f"{key}.") for each, _ in there), key
    for part in PARTS:
        for name in known(part):
            for field in module_of(part, name, ()).Settings.__struct_fields__:
                assert (f"{part}.{field}", name) in there
    assert len(EVERY) > 150


def test_the_page_is_what_the_verb_prints(capsys):
    from lmstream.cli import main

    assert main(["config", "reference"]) == 0
    said = capsys.readouterr().out
    assert said == page(FOUND)
    assert (DOCS / "configuration.md").read_text("utf-8") == said, (
        "run: lmstream config reference > docs/configuration.md"
    )


def test_every_link_within_the_page_has_its_heading():
    text = page(FOUND)
    headings = [anchor(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    assert len(headings) == len(set(headings))
    links = re.findall(r"\]\(#([^)]*)\)", text)
    assert len(links) == len(EVERY)
    assert set(links) <= set(headings)


def test_one_setting_or_one_table_is_printed_alone(capsys):
    from lmstream.cli import main

    assert main(["config", "reference", "source.group"]) == 0
    assert capsys.readouterr().out.startswith("### `source.group` (confluent, kafka)\n")
    assert main(["config", "reference", "engine.limits", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["key"] for line in lines} == {each.key for each in EVERY if each.key.startswith("engine.limits.")}
    assert lines[0]["variable"] == "LMSTREAM_ENGINE__LIMITS__RECORD_BYTES"
    assert main(["config", "reference", "source.grup"]) == 2
    assert "did you mean source.group?" in capsys.readouterr().err


def test_every_variable_sets_its_setting():
    for each in EVERY:
        if not each.of and not each.key.endswith(".type") and each.default not in ({}, None):
            text = each.default if isinstance(each.default, str) else json.dumps(each.default)
            load(env={each.variable: text})


def flat(path, value):
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from flat(f"{path}.{name}" if path else name, inner)


def test_the_example_has_every_setting_of_its_run_and_links_the_others():
    types = {EXAMPLE[part]["type"] for part in PARTS}
    text = (DOCS / "lmstream.example.toml").read_text("utf-8")
    here = {*flat("", EXAMPLE), "runtime.fatal_patience"}  # unset is its default, and TOML cannot say so
    assert "# fatal_patience = " in text
    for each in EVERY:
        if not each.of or types & set(each.of):
            assert each.key in here, each.key
    assert "configuration.md" in text


def test_the_schema_is_the_file_in_docs_and_what_the_verb_prints(capsys):
    from lmstream.cli import main

    assert main(["config", "schema"]) == 0
    said = capsys.readouterr().out
    assert json.loads(said) == schema()
    assert (DOCS / NAME).read_text("utf-8") == said, f"run: lmstream config schema > docs/{NAME}"


def test_the_schema_takes_the_example():
    Draft7Validator.check_schema(schema())
    SCHEMA.validate(EXAMPLE)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ('[engin]\norg_id = "a"', "", "'engin' was unexpected"),
        ('[engine]\norgid = "a"', "engine", "'orgid' was unexpected"),
        ("[engine.limits]\npints = 1", "engine.limits", "'pints' was unexpected"),
        ("[delivery]\nconcurrency = 0", "delivery.concurrency", "0 is less than the minimum of 1"),
        ('[delivery]\ntimeout = "20s"', "delivery.timeout", "'20s' is not of type 'number'"),
        ('[sink]\ntype = "firehos"', "sink.type", "'firehos' is not valid under any of the given schemas"),
        ('[sink]\ntype = "local"\nstream = "s"', "sink", "'stream' was unexpected"),
        ('[sink]\ntype = "s3"\nbuket = "b"', "sink", "'buket' was unexpected"),
        ('[dead_letters]\nbucket = "b"', "dead_letters", "'bucket' was unexpected"),
        ('[source]\ntype = "kafka"\ngrup = "g"', "source", "'grup' was unexpected"),
        ('[source]\ntype = "kafka"\ntopics = "t"', "source.topics", "'t' is not of type 'array'"),
        ('[logs]\nformat = "yaml"', "logs.format", "'yaml' is not one of"),
    ],
)
def test_the_schema_refuses_what_a_start_refuses(text, where, what):
    told = [(".".join(map(str, e.absolute_path)), e.message) for e in SCHEMA.iter_errors(tomllib.loads(text))]
    assert any(path == where and what in message for path, message in told), told


@pytest.mark.parametrize(
    "text",
    [
        '[sink]\ntype = "acme.sink"\nanything = 1',
        '[engine]\nformat = "acme.codec"',
        '[dead_letters]\nroot = "x"',
        '[dead_letters]\ntype = "letters_kafka"\ntopic = "t"\nbootstrap = "b:1"',
        '[source]\ntype = "files"\npaths = ["."]\nshare = [0, 2]',
        '[source]\nbootstrap = "b:1"',  # its type may come from a variable
        "[runtime]\nfatal_patience = 5",
        "[sink]\ntype = 's3'\nbucket = 'b'\nlanes = 4\nmonthly_dollars = 10.5",
    ],
)
def test_the_schema_takes_what_a_start_takes(text):
    SCHEMA.validate(tomllib.loads(text))


def test_every_default_is_one_that_the_schema_takes():
    for each in EVERY:
        if each.default is None or each.required:
            continue
        *tables, name = each.key.split(".")
        value = {name: each.default} if not each.of else {name: each.default, "type": each.of[0]}
        for table in reversed(tables):
            value = {table: value}
        SCHEMA.validate(json.loads(json.dumps(value)))


def test_what_an_extra_is_missing_for_is_said_and_the_rest_is_printed():
    block = "import sys; sys.modules['confluent_kafka'] = None; sys.modules['pyarrow'] = None\n"
    code = f"{block}from lmstream.cli import main; sys.exit(main(['config', 'reference', 'source.group']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("### `source.group` (kafka)")
    assert "left out: " in done.stderr
    assert "[confluent]" in done.stderr
