"""The help of all verbs and the version are answered without the parser, and say what the parser says."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmstream import __version__
from lmstream.cli import installation, verbs
from lmstream.cli.parser import parser
from lmstream.cli.root_help import GLOBAL, text

ROOT = Path(__file__).parents[2]


def test_it_lists_every_verb_of_the_parser_with_its_sentence_under_its_group(cli):
    app = parser()
    known = {name: app[name] for name in app if not name.startswith("-")}
    blocks = cli("--help").out.split("\n\n")
    listed = {}
    for block in blocks[2:-2]:
        group, *lines = block.splitlines()
        for line in lines:
            if found := re.match(r"  ([a-z]+) ", line):
                listed[found[1]] = [group, ""]
                name = found[1]
            listed[name][1] += " " + line.removeprefix(f"  {name}").strip()
    assert set(listed) == set(known)
    for name, (group, said) in listed.items():
        assert " ".join(said.split()) == " ".join(known[name].help.split())
        assert known[name].group == (group,)


def test_every_flag_that_it_names_works_with_a_verb(cli):
    for flag in GLOBAL:
        said = cli(flag) if flag == "--version" else cli("schema", flag)
        assert said.code == 0, (flag, said)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_it_is_as_wide_as_the_terminal(width):
    assert max(map(len, text(width).splitlines())) <= width


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",), ("help",), ("help", "--help")])
def test_it_is_the_answer_to_every_way_of_asking(cli, args):
    said = cli(*args)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"lmstream {__version__}: ")


def test_help_of_a_verb_is_asked_in_both_ways(cli):
    assert cli("help", "dlq", "ls").out == cli("dlq", "ls", "--help").out


HEAVY = {"cyclopts", "rich", "msgspec", "logging", "lmstream.engine", "lmstream.config", "asyncio"}


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["version"]])
def test_nothing_heavy_is_imported_for_it(args):
    program = (
        f"import sys; from lmstream.cli import main; main({args}); print(*sys.modules, sep=chr(10), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not HEAVY & set(done.stderr.split())


def test_version_says_what_this_installation_is(cli):
    facts = json.loads(cli("version", "--json").out)
    assert facts["version"] == __version__
    assert facts["python"] == platform.python_version()
    assert {"cli", "consumer"} <= set(facts["extras"])
    shown = cli("version").out
    assert cli("--version").out == shown
    assert shown.splitlines()[0] == f"lmstream {__version__}"
    assert platform.python_version() in shown


def git(folder, *args):
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    names = ("-c", "user.name=n", "-c", "user.email=e@example.com")
    done = subprocess.run(["git", *names, *args], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_checkout_of_a_worktree_and_of_packed_refs(tmp_path):
    checkout = tmp_path / "checkout"
    package = checkout / "src" / "lmstream"
    package.mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    assert installation.commit(package) == "unknown"
    git(checkout, "init", "-q")
    assert installation.commit(package) == "unknown", "nothing is committed yet"
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "first")
    head = git(checkout, "rev-parse", "HEAD")
    assert installation.commit(package) == head
    git(checkout, "pack-refs", "--all")
    assert installation.commit(package) == head
    git(checkout, "checkout", "-q", "--detach")
    assert installation.commit(package) == head
    git(checkout, "worktree", "add", "-q", "-b", "other", tmp_path / "tree")
    (tmp_path / "tree/src/lmstream").mkdir(parents=True)
    assert installation.commit(tmp_path / "tree/src/lmstream") == head


def test_the_commit_of_a_build_is_the_one_written_there_and_of_nothing_is_unknown(tmp_path):
    package = tmp_path / "site-packages" / "lmstream"
    package.mkdir(parents=True)
    assert installation.commit(package) == "unknown"
    (package / "commit.txt").write_text("0123abc\n")
    assert installation.commit(package) == "0123abc"


def test_an_installation_inside_somebody_elses_repository_does_not_name_its_commit(tmp_path):
    git(tmp_path, "init", "-q")
    package = tmp_path / "lib" / "lmstream"
    package.mkdir(parents=True)
    assert installation.commit(package) == "unknown"


def test_an_extra_with_a_package_that_is_not_there_is_missing(monkeypatch):
    needs = ['nobody-has-this>=1; extra == "one"', "msgspec>=0.2; extra == 'two'", "msgspec>=0.22,<0.23"]
    needs += ["nobody-has-this; sys_platform == 'elsewhere' and extra == 'two'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda _: needs)
    assert installation.extras() == (["two"], ["one"])


def test_every_verb_has_a_group():
    assert all(verb.group for verb in verbs().values())
