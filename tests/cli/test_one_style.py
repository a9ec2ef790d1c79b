"""One name for each flag, old ones taken for one version; one style of JSON: snake_case, a line for each of a list."""

import asyncio
import json
import re
from collections import defaultdict

import pytest

from lmstream.cli import verbs
from lmstream.cli.flags import duration
from lmstream.cli.old_flags import OLD, renamed
from lmstream.cli.parser import parser
from lmstream.config import build_letters, load
from lmstream.errors import ConfigError
from lmstream.model import DeadLetter

SNAKE = re.compile(r"[a-z][a-z0-9_]*")
JSON = {
    *("acls", "config reference", "config show", "demo", "dlq ls", "dlq purge", "dlq replay", "dlq show", "dlq stats"),
    *("explain", "health", "inspect", "lag", "lake compact", "lake repair", "publish", "query", "run", "telemetry ls"),
    *("topic", "validate", "verify", "version"),
}
"""Verbs that list, answer or end with a sum."""
OTHERS = {
    "tap",
    "plugin new",
    "config schema",
    "init",
    "schema",
    "skip",
    "telemetry grafana",
    "telemetry prometheus",
    "completion",
}
"""Verbs that print a document, or nothing."""


def flags():
    """The flags of each verb: their first names, with all there are."""
    found = {}
    for name in verbs():
        node = parser()
        for part in name.split(" "):
            node = node[part]
        if not any(other.startswith(f"{name} ") for other in verbs()):
            found[name] = {each.names[0]: each for each in node.assemble_argument_collection() if each.show}
    return found


@pytest.fixture(scope="module")
def of_verbs():
    return flags()


def test_what_lists_or_sums_up_has_json(of_verbs):
    assert {name for name, found in of_verbs.items() if "--json" in found} >= JSON
    assert set(of_verbs) - OTHERS <= {name for name, found in of_verbs.items() if "--json" in found}


def test_a_flag_means_one_thing(of_verbs):
    helps = defaultdict(set)
    for found in of_verbs.values():
        for name, each in found.items():
            hint = str(each.hint).replace(" | None", "").replace("pathlib.Path", "str")
            helps[name].add(re.sub(r"^typing[.]Optional\[(.*)\]$", r"\1", hint))
    assert helps["--format"] == {"typing.Literal['ndjson', 'parquet']"}, "of rows that landed"
    assert helps["--from"] == {"tuple[str, ...]"}, "offsets of verify"
    for name in ("--s3-region", "--s3-endpoint-url", "--since", "--until", "--group", "--bootstrap", "--limit"):
        assert len(helps[name]) == 1, (name, helps[name])


def test_flags_of_the_engine_are_where_rows_are_made_alone(of_verbs):
    for verb in ("dlq ls", "dlq stats", "dlq purge", "lag", "health", "topic", "skip"):
        assert not {"--org", "--source-id", "--input-format"} & set(of_verbs[verb]), verb
    assert {"--org", "--input-format"} <= set(of_verbs["dlq replay"])


def test_every_new_name_is_a_flag_of_the_verb_and_no_old_one_is(of_verbs):
    for verb, names in OLD.items():
        assert set(names.values()) <= set(of_verbs[verb])
        assert not set(names) & set(of_verbs[verb])


def test_an_old_name_is_taken_and_said_once_whatever_its_form():
    said = []
    words = ["verify", "--region=eu-1", "--endpoint-url", "http://x", "--region", "eu-2", "--", "--region"]
    found = renamed("verify", words, said.append)
    expected = ["verify", "--s3-region=eu-1", "--s3-endpoint-url", "http://x", "--s3-region", "eu-2", "--", "--region"]
    assert found == expected
    assert len(said) == 2
    assert "--s3-region" in said[0]


@pytest.mark.parametrize(
    "args",
    [
        (
            "validate",
            "--from=latest",
            *["--bootstrap", "b:1", "--topic", "t", "--group", "g", "--org", "a", "--landed", "{to}"],
        ),
        ("inspect", "{bundle}", "--format", "tree"),
    ],
)
def test_verbs_do_what_old_names_ask_for_with_a_line_of_warning(cli, bundles, tmp_path, args):
    folder, _ = bundles(1)
    places = {"bundles": folder, "bundle": folder / "000.json", "to": tmp_path / "to"}
    said = cli(*(each.format(**places) for each in args))
    assert "LMS-" not in said.err, said
    assert said.out
    assert "the old name goes with the next version" in said.err.splitlines()[0]


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5), ("0.5", 0.5), ("90s", 90), ("15m", 900), ("72h", 259_200), ("7d", 604_800)]
)
def test_a_duration_is_seconds_or_has_a_unit(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "inf", "5 parsecs"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match="is not a duration"):
        duration(text)


def keys(value, *, data=("attributes", "partitions", "skipped", "rejected", "noted", "refused", "failed", "labels")):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            if key not in data:  # named by data: topics, reasons
                yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


@pytest.fixture
def letters(tmp_path):
    config = load(env={}, overrides={"dead_letters.root": str(tmp_path / "dead")})
    letter = DeadLetter(topic="t", partition=0, offset=1, value=b"junk", reason="decode.json", code="LMS-1002")
    asyncio.run(build_letters(config).write([letter]))
    return tmp_path / "dead"


@pytest.mark.parametrize(
    ("args", "many"),
    [
        (("dlq", "ls", "{letters}"), True),
        (("dlq", "stats", "{letters}"), False),
        (("dlq", "purge", "{letters}", "--all"), False),
        (("dlq", "replay", "{letters}", "--org", "a"), False),
        (("dlq", "replay", "{letters}", "--org", "a", "--landed", "{to}", "--yes"), False),
        (("run", "--files", "{letters}", "--org", "a", "--landed", "{to}", "--dead-letters", "{to}-letters"), False),
        (("verify", "--expected", "{log}", "--landed", "{landed}"), False),
        (("explain", "LMS-1002"), True),
        (("telemetry", "ls"), True),
        (("config", "show"), True),
        (("config", "reference", "engine"), True),
        (("validate", "--org", "a", "--files", "{letters}", "--landed", "{to}"), True),
        (("health", "--address", "127.0.0.1:1"), False),
        (("version",), False),
    ],
)
def test_json_is_snake_case_and_one_line_for_each(cli, letters, tmp_path, args, many):
    (tmp_path / "landed").mkdir()
    log = tmp_path / "log.jsonl"
    one = {"topic": "t", "partition": 0, "offset": 0, "timestamp": 1, "bundleId": "0" * 32, "points": 0}
    log.write_text(json.dumps(one | {"tombstone": True}) + "\n")
    places = {"letters": letters, "to": tmp_path / "to", "landed": tmp_path / "landed", "log": log}
    said = cli(*(each.format(**places) for each in args), "--json")
    values = [json.loads(line) for line in said.out.splitlines()]
    assert values, said
    assert many or len(values) == 1
    assert all(isinstance(value, dict) for value in values)
    assert [key for value in values for key in keys(value) if not SNAKE.fullmatch(key)] == []


def test_the_last_line_of_a_run_has_fields_in_a_log_of_json(cli, bundles, tmp_path):
    folder, made = bundles(3)
    common = ("run", "--files", folder, "--org", "acme", "--landed", tmp_path / "to")
    said = cli(*common, "--set", "logs.format=json")
    last = json.loads(said.err.splitlines()[-1])
    assert last["event"].startswith("done in ")
    assert last["summary"]["rows"] == sum(each.rows for each in made)
    assert last["summary"]["records"] == len(made)
    assert "sums" in last["summary"]
