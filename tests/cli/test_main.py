"""Exit codes and messages: one clear line, never a traceback unless asked for."""

import os
import subprocess
import sys

import pytest

from lmstream import __version__, cli
from lmstream.cli import terminal

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


def test_version(cli):
    assert cli("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_of_itself(cli, verb):
    said = cli(verb, "--help")
    assert said.code == 0
    assert "Examples:" in said.out
    assert f"lmstream {verb}" in said.out.split("Examples:")[1]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["shema"], 'Did you mean "schema"?'),
        (["schema", "--jsn"], "Unknown option"),
        (["schema", "xml"], 'Choose from: "json"'),
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
    assert "pip install 'lmstream[cli]'" in said.err
    assert len(said.err.splitlines()) == 1


def test_a_bug_is_one_line_and_exit_1_and_its_traceback_is_asked_for(cli, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("lmstream.spec.json_schema", broken)
    said = cli("schema")
    assert said.code == 1
    (line,) = said.err.splitlines()
    assert line.startswith(
        "lmstream: LMS-9001 unexpected ZeroDivisionError: oops [bug.unexpected]. Mend: run again with --debug"
    )
    assert "Traceback" in cli("schema", "--debug").err


def test_the_keyboard_interrupts_with_130(cli, monkeypatch):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr("lmstream.spec.json_schema", stopped)
    assert cli("schema").code == 130


def test_as_a_module_an_unreachable_broker_is_one_clear_message():
    done = spawn("publish", "--topic", "t", "--bootstrap", "127.0.0.1:1", "--count", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "LMS-3001" in done.stderr
    assert "Mend:" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_variable_of_ours_is_told_with_the_nearest():
    done = spawn("inspect", "-", LMSTREAM_ENGINE__ORGID="x")
    assert done.returncode == 2
    assert "did you mean engine.org_id?" in done.stderr


def test_a_reader_that_goes_away_is_no_error():
    text = f"{sys.executable} -m lmstream schema json | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


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

    assert main is cli.main
