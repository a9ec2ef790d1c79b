"""-q, -v, --debug and LMSTREAM_LOG: errors are always said, all else as loud as asked; data on stdout stays as it is."""

import json
import logging
import subprocess
import sys

import pytest

from lmstream.cli.loudness import Loudness, loudness_of
from lmstream.errors import ConfigError


@pytest.mark.parametrize(
    ("flags", "named", "usual", "level"),
    [
        ((), "", logging.WARNING, logging.WARNING),
        ((), "", logging.INFO, logging.INFO),
        (("-v",), "", logging.WARNING, logging.INFO),
        (("-v", "-v"), "", logging.WARNING, logging.DEBUG),
        (("-vv",), "", logging.WARNING, logging.DEBUG),
        (("--verbose",), "", logging.INFO, logging.DEBUG),
        (("-vvv",), "", logging.INFO, logging.DEBUG),
        (("-q",), "debug", logging.INFO, logging.ERROR),
        ((), "debug", logging.WARNING, logging.DEBUG),
        ((), "ERROR", logging.INFO, logging.ERROR),
        (("-v",), "error", logging.INFO, logging.WARNING),
        (("--debug",), "error", logging.INFO, logging.DEBUG),
    ],
)
def test_flags_and_the_variable_set_the_level(flags, named, usual, level):
    loud, others = loudness_of(["run", *flags, "--org", "acme"], {"LMSTREAM_LOG": named})
    assert others == ["run", "--org", "acme"]
    assert loud.level(usual) == level


def test_behind_two_hyphens_nothing_is_a_flag():
    assert loudness_of(["query", "--", "-v"], {}) == (Loudness(), ["query", "--", "-v"])


@pytest.mark.parametrize(
    ("flags", "env"), [(["-q", "-v"], {}), (["-q", "--debug"], {}), ([], {"LMSTREAM_LOG": "loud"})]
)
def test_what_makes_no_sense_is_refused(flags, env):
    with pytest.raises(ConfigError):
        loudness_of(flags, env)


def test_a_wrong_level_is_one_line_that_names_those_there_are(cli, monkeypatch):
    monkeypatch.setenv("LMSTREAM_LOG", "chatty")
    said = cli("schema")
    assert (said.code, said.out) == (2, "")
    assert "LMSTREAM_LOG=chatty: expected one of error, warning, info, debug" in said.err


def test_quiet_says_errors_alone_and_leaves_data_as_it_is(cli, bundles, tmp_path):
    folder, made = bundles(3)
    common = ("run", "--files", folder, "--org", "acme", "--dead-letters", tmp_path / "dead")
    loud = cli(*common, "--landed", tmp_path / "one", "--json")
    quiet = cli(*common, "--landed", tmp_path / "two", "--json", "-q")
    assert "done in" in loud.err
    assert (quiet.code, quiet.err) == (0, "")
    assert json.loads(quiet.out)["rows"] == json.loads(loud.out)["rows"] == sum(each.rows for each in made)
    said = cli("run", "--files", tmp_path / "nowhere", "--org", "acme", "--landed", tmp_path / "two", "-q")
    assert said.code != 0
    assert "LMS-" in said.err
    assert len(said.err.splitlines()) == 1


def test_a_quiet_run_that_delivers_nothing_says_why_its_exit_code_is_4(cli, tmp_path):
    (tmp_path / "some.json").write_text("{}")
    said = cli("run", "--files", tmp_path / "some.json", "--org", "a", "--landed", tmp_path / "to", "-q")
    assert said.code == 4
    assert said.err


@pytest.mark.slow
def test_it_reaches_the_workers(tmp_path, bundles):
    folder, _ = bundles(4)
    command = [sys.executable, "-m", "lmstream", "run", "--files", folder, "--org", "acme", "--landed", tmp_path / "to"]
    said = {}
    for flags in ((), ("-q",)):
        done = subprocess.run(
            [*command, "--workers", "2", *flags], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        said[flags] = done.stderr
    assert "worker 1: done in" in said[()]
    assert said["-q",] == ""
