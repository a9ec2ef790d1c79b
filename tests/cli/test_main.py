"""Exit codes and messages: one clear line, never a traceback unless asked for."""

import asyncio
import errno
import os
import subprocess
import sys

import pytest

from lmstream import cli as cli_package
from lmstream.cli import terminal
from support.mock_kafka import MockKafka

VERBS = ("demo", "run", "publish", "inspect", "verify", "query", "schema")


def spawn(*args, **env):
    return subprocess.run(
        [sys.executable, "-m", "lmstream", *args],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        check=False,
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_of_itself(cli, verb):
    said = cli(verb, "--help")
    assert said.code == 0
    assert "Examples:" in said.out
    assert f"lmstream {verb}" in said.out.split("Examples:")[1]


@pytest.mark.parametrize("verb", sorted(cli_package.verbs()))
def test_lines_of_help_end_where_the_terminal_does(cli, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "600")
    lines = [line for line in cli(*verb.split(), "--help").out.splitlines() if line.startswith("│ ")]
    assert [line for line in lines if line.startswith("│      ")] == [], "on so wide a terminal each flag is one line"


@pytest.mark.parametrize("verb", sorted(name for name in cli_package.verbs() if " " not in name))
def test_no_example_is_wrapped_on_a_terminal_of_80_columns(cli, verb):
    shown = [line.strip() for line in cli(verb, "--help").out.split("Examples:")[1].strip().splitlines()]
    assert shown == [line.strip() for line in cli_package.verbs()[verb].examples.splitlines()]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["shema"], "there is no verb shema; did you mean schema?"),
        (["schema", "--jsn"], "unknown flag --jsn"),
        (["schema", "xml"], "FORM xml: expected json, glue"),
        (["query"], "--landed"),
        (["publish", "--topic", "t", "--bootstrap", "127.0.0.1:1", "--cont", "5"], "--count"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(cli, args, expected):
    said = cli(*args)
    assert said.code == 2
    assert said.out == ""
    assert expected in said.err
    assert len(said.err.splitlines()) == 1


def test_a_missing_extra_is_a_hint_and_exit_2(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "cyclopts", None)
    said = cli("schema")
    assert said.code == 2
    assert (
        "the command line needs the extra [cli] [config.extra]. Fix: pip install '.[cli]' in the checkout" in said.err
    )
    assert len(said.err.splitlines()) == 1


WITHOUT = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from lmstream.cli import main
sys.exit(main({arguments}))
"""
CONSUMER = (
    "aiokafka",
    "cramjam",
    "aioboto3",
    "aiobotocore",
    "botocore",
    "pybase64",
    "prometheus_client",
    "structlog",
    "aiohttp",
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--topic", "t", "--bootstrap", "127.0.0.1:1", "--org", "acme", "--sink", "stdout"],
        ["publish", "--topic", "t", "--bootstrap", "127.0.0.1:1", "--count", "1"],
        ["verify", "--topic", "t", "--group", "g", "--bootstrap", "127.0.0.1:1", "--landed", ".", "--org", "o"],
        ["inspect", "t/0/1", "--bootstrap", "127.0.0.1:1"],
        ["lag", "--bootstrap", "127.0.0.1:1", "--topic", "t", "--group", "g"],
        ["skip", "t/0", "--to", "1", "--group", "g", "--bootstrap", "127.0.0.1:1"],
        ["health"],
        ["demo"],
    ],
    ids=" ".join,
)
def test_what_needs_an_extra_says_which_on_a_machine_with_the_command_line_alone(arguments, tmp_path):
    program = WITHOUT.format(absent=set(CONSUMER), arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "LMS-2002" in done.stderr
    assert "[consumer]" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "--help"], 0),
        (["run", "--files", "-", "--org", "acme", "--sink", "stdout"], 4),
        (["validate", "--help"], 0),
        (["config", "show"], 0),
        (["dlq", "ls", "."], 0),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else None,
)
def test_what_needs_no_broker_needs_the_command_line_alone(arguments, code, tmp_path):
    program = WITHOUT.format(absent=set(CONSUMER), arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", program], input=b"{}", capture_output=True, timeout=60, cwd=tmp_path, check=False
    )
    assert done.returncode == code, done.stderr


def test_a_bug_is_one_line_and_exit_1_and_its_traceback_is_asked_for(cli, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("lmstream.spec.json_schema", broken)
    said = cli("schema")
    assert said.code == 1
    (line,) = said.err.splitlines()
    assert line.startswith(
        "lmstream: LMS-9001 unexpected ZeroDivisionError: oops [bug.unexpected]. Fix: run again with --debug"
    )
    assert "Traceback" in cli("schema", "--debug").err


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, os.strerror(errno.EMFILE), "somewhere"),
        OSError(errno.ENFILE, os.strerror(errno.ENFILE)),
        ImportError("libsasl2.so: cannot open shared object file: Too many open files"),
    ],
)
def test_too_few_descriptors_are_no_bug(cli, monkeypatch, error):
    def starved(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("lmstream.spec.json_schema", starved)
    said = cli("schema")
    assert said.code == 1
    assert said.err.startswith("lmstream: LMS-2021 the limit of open files is too low for this process: ")
    assert "ulimit -n" in said.err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kafka", "confluent"])
async def test_a_run_with_few_descriptors_never_ends_as_a_bug(tmp_path, kind):
    """Real descriptors: what fails depends on how many there are."""
    async with MockKafka() as kafka:
        kafka.create_topic("t")
        for most in (10, 14):
            command = f"ulimit -n {most}; exec {sys.executable} -m lmstream run --bootstrap {kafka.bootstrap} --topic t"
            command += f" --org acme --set source.type={kind} --landed landed --dead-letters dead"
            command += " --set endpoints.address=off"
            process = await asyncio.create_subprocess_shell(
                command,
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                async with asyncio.timeout(6):
                    out, _ = await process.communicate()
            except TimeoutError:
                process.terminate()
                out, _ = await process.communicate()
            assert "LMS-9001" not in out.decode(), (most, out.decode())


def test_the_keyboard_interrupts_with_130(cli, monkeypatch):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr("lmstream.spec.json_schema", stopped)
    assert cli("schema").code == 130


def test_as_a_module_an_unreachable_broker_is_one_clear_message():
    done = spawn("publish", "--topic", "t", "--bootstrap", "127.0.0.1:1", "--count", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "LMS-3001" in done.stderr
    assert "Fix:" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_variable_of_ours_is_told_with_the_nearest():
    done = spawn("inspect", "-", LMSTREAM_ENGINE__ORGID="x")
    assert done.returncode == 2
    assert "did you mean LMSTREAM_ENGINE__ORG_ID?" in done.stderr


POINT = '{"timeUnixNano":"1715263558360000000","asInt":1,"attributes":[{"key":"k","value":{"stringValue":"v"}}]}'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("schema json", 0),
        ("telemetry ls", 0),
        ("inspect bundle.json --view tree", 0),
        ("inspect bundle.json --rows --limit 5000", 0),
        ("verify --expected log.jsonl --landed .", 3),
        ("verify --expected log.jsonl --landed . --json", 3),
    ],
)
def test_a_reader_that_goes_away_is_no_error_and_no_verdict(tmp_path, arguments, code):
    points = ",".join([POINT] * 2000)
    metrics = f'[{{"name":"m","gauge":{{"dataPoints":[{points}]}}}}]'
    (tmp_path / "bundle.json").write_text(f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":{metrics}}}]}}]}}')
    (tmp_path / "log.jsonl").write_text(
        f'{{"topic":"t","partition":0,"offset":0,"timestamp":1,"bundleId":"{"0" * 32}","points":3}}\n'
    )
    text = f"(sleep 0.1; exec {sys.executable} -m lmstream {arguments}) | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == code, done.stderr
    assert "Error" not in done.stderr


@pytest.mark.parametrize("form", ["table", "tree", "json"])
def test_what_the_encoding_of_a_terminal_lacks_is_escaped(tmp_path, form):
    metrics = f'[{{"name":"\U0001f600","gauge":{{"dataPoints":[{POINT}]}}}}]'
    path = tmp_path / "bundle.json"
    path.write_text(f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":{metrics}}}]}}]}}', encoding="utf-8")
    done = spawn("inspect", str(path), "--view", form, PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert "\\U0001f600" in done.stdout or "\\ud83d\\ude00" in done.stdout


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\x00b", "a\\x00b"),
        ("\x9b31m", "\\x9b31m"),
        ("evil\u202egnp", "evil\\u202egnp"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("Grüße \U0001f600", "Grüße \U0001f600"),
    ],
)
def test_nothing_hostile_reaches_the_terminal(hostile, shown):
    assert terminal.clean(hostile) == shown


def test_long_texts_are_cut_and_cells_are_one_line():
    assert terminal.clean("x" * 500) == "x" * 200 + "…"
    assert terminal.cell("two\nlines") == "two\\nlines"


def test_the_entry_point_is_the_same_function():
    from lmstream.__main__ import main

    assert main is cli_package.main
