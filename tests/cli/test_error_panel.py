"""Errors: on a terminal a small panel with the line underlined and one command to run next, elsewhere one line; no secret
of the file, and no escape where nobody wants one."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.cli import terminal
from lmstream.cli.error_panel import MOST, next_command, panel, styled
from lmstream.cli.invocation import tell
from lmstream.config import load
from lmstream.errors import ConfigError, MistakesError, Spot

TOML = """[engine]
org_idd = "acme"   # a typo
time_fallback = "yesterday"

[source]
type = "kafka"
bootstrap = "b:9092"
topics = ["t"]
group = "g"
passwrod = "hunter2"
sasl_password = "hunter3"

[delivery]
concurrency = 99999
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lmstream.toml"
    path.write_text(TOML)
    return path


def on_a_terminal(*args, **env):
    """What a verb shows on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    base = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR"}}
    done = subprocess.Popen(
        [sys.executable, "-m", "lmstream", *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=base | {"TERM": "xterm-256color", "COLUMNS": "80"} | env,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(ours)
    return done.wait(timeout=30), shown.decode().replace("\r\n", "\n")


def bare(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_wrong_file_is_a_panel_with_each_line_underlined(file):
    code, shown = on_a_terminal("run", "--config", file)
    assert code == 2
    assert "\x1b[1;31merror LMS-2001" in shown
    lines = bare(shown).splitlines()
    at = lines.index("2 | org_idd = ...")
    assert lines[at + 1] == "  | ^^^^^^^"
    assert lines[at - 2].endswith("lmstream.toml:2:1")
    at = lines.index('3 | time_fallback = "yesterday"')
    assert lines[at + 1] == "  |                 ^^^^^^^^^^^"
    assert "14 | concurrency = 99999" in lines
    assert lines[-1] == f"  next  lmstream validate --config {file}"
    assert sum(line.startswith("  why ") for line in lines) == 1
    assert "hunter" not in shown
    assert max(len(line) for line in lines[:-1] if "-->" not in line) <= 80


def test_elsewhere_it_is_one_line_for_each_mistake_with_code_file_and_line(cli, file):
    said = cli("run", "--config", file)
    assert said.code == 2
    lines = said.err.splitlines()
    assert all(re.match(r"lmstream: LMS-2001 .*More: lmstream explain LMS-2001$", line) for line in lines)
    assert any("org_idd" in line and f"{file}, line 2" in line for line in lines)
    assert "hunter" not in said.err


@pytest.mark.parametrize("log", [True, False])
def test_a_log_and_a_worker_get_lines_and_no_panel(monkeypatch, capsys, log):
    told = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(terminal, "teller", (lambda text, _: told.append(text)) if log else None)
    monkeypatch.setattr(terminal, "prefix", "" if log else "worker 1: ")
    assert tell(ConfigError("config.invalid", "x")) == 2
    lines = told if log else capsys.readouterr().err.splitlines()
    assert lines == [f"{terminal.prefix}lmstream: LMS-2001 x [config.invalid]. More: lmstream explain LMS-2001"]


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
@pytest.mark.parametrize(
    "args",
    [("run", "--bogus"), ("explain", "LMS-3005"), ("explain",), ("run", "--help"), ("version",), ("telemetry", "ls")],
)
def test_no_escape_where_nobody_wants_one(args, env):
    _, shown = on_a_terminal(*args, **env)
    assert shown.strip()
    assert "\x1b" not in shown


def test_a_wrong_statement_has_a_code_of_its_own_and_its_place(cli, tmp_path):
    (tmp_path / "landed").mkdir()
    sql = "select metric,\n  nothing from rows"
    said = cli("query", sql, "--landed", tmp_path / "landed")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("lmstream: LMS-5020 ")
    assert len(said.err.splitlines()) == 1
    assert "^" not in said.err
    code, shown = on_a_terminal("query", sql, "--landed", tmp_path / "landed")
    lines = bare(shown).splitlines()
    assert code == 2
    at = next(n for n, line in enumerate(lines) if line.startswith("2 | "))
    assert lines[at] == "2 |   nothing from rows"
    assert lines[at + 1] == "  |   ^^^^^^^"
    assert lines[-1].split() == ["next", "lmstream", "explain", "LMS-5020"]


def test_a_typo_says_which_verb_has_help_and_suggests_only_what_is_like_it(cli):
    said = cli("dlq", "ls", "--limt", "3")
    assert "did you mean --limit?" in said.err
    assert "lmstream dlq ls --help" in said.err
    assert "Did you mean" not in cli("run", "--bogus").err


def test_of_many_mistakes_the_first_are_shown_and_the_others_counted():
    error = MistakesError([ConfigError("config.invalid", f"mistake {n}") for n in range(MOST + 3)])
    lines = panel(error, 80)
    assert f"mistake {MOST - 1}" in "\n".join(lines)
    assert f"mistake {MOST}" not in "\n".join(lines)
    assert "and 3 more mistakes" in lines


def test_the_command_to_run_next_is_one_that_helps():
    spot = Spot("my file.toml", 1, 1, 1)
    assert next_command(ConfigError("config.invalid", "x", spot=spot)) == "lmstream validate --config 'my file.toml'"
    assert next_command(ConfigError("usage.arguments", "x"), "dlq ls") == "lmstream dlq ls --help"
    assert next_command(ConfigError("config.extra", "x")) == "lmstream explain LMS-2002"


@pytest.mark.parametrize("line", ['key = "s3cret"', "key = s3cret", 'key = { password = "s3cret" }', 'key="s3cret"'])
@pytest.mark.parametrize("column", [1, 8])
def test_a_value_that_the_message_does_not_show_is_not_shown(tmp_path, line, column):
    path = tmp_path / "x.toml"
    path.write_text(line)
    lines = panel(ConfigError("config.invalid", "key is not a setting", spot=Spot(str(path), 1, column, 3)), 80)
    assert "s3cret" not in "\n".join(lines)
    assert any("key" in each and "= ..." in each for each in lines)


@given(st.text(max_size=300), st.integers(1, 400), st.integers(0, 400), st.integers(40, 100), st.text(max_size=200))
def test_any_line_and_any_mark_make_a_panel_without_escapes(text, column, marked, width, detail):
    spot = Spot("f", 1, min(column, len(text) + 1), marked, text=text.replace("\n", " ") or " ")
    lines = panel(ConfigError("query.sql", detail, spot=spot), width)
    assert all("\n" not in line and "\x1b" not in line for line in lines)
    assert "\x1b[1;31m" in "\n".join(panel(ConfigError("query.sql", detail, spot=spot), width, styled))


def test_a_file_that_is_gone_is_named_without_its_line(tmp_path):
    lines = panel(ConfigError("config.invalid", "x", spot=Spot(str(tmp_path / "gone"), 4, 2, 1)), 80)
    assert any(line.endswith("gone:4:2") for line in lines)


def test_the_page_shows_what_is_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lmstream.toml").write_text('[engine]\norg_idd = "acme"\n')
    with pytest.raises(ConfigError) as e:
        load(Path("lmstream.toml"), env={})
    shown = "\n".join(panel(e.value, 80))
    assert f"```text\n{shown}\n```" in (Path(__file__).parents[2] / "docs/terminal.md").read_text("utf-8")
