"""Completion: static scripts that know what the parser knows, real shells that offer it, values out of a quick cache."""

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest

from lmstream.cli import verbs
from lmstream.cli.completion import tree
from lmstream.cli.parser import parser
from lmstream.cli.values import KINDS, MOST, place, remember, values
from lmstream.errors import REASONS

SHELLS = ("bash", "zsh", "fish")
HOSTILE = ["$(touch owned)", "`id`", "a b", "x\n", "-rf;", "ok.topic", "é", "'"]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The scripts, and an `lmstream` that runs this very checkout."""
    folder = tmp_path_factory.mktemp("completion")
    program = folder / "lmstream"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lmstream "$@"\n')
    program.chmod(0o755)
    for shell in SHELLS:
        done = subprocess.run([program, "completion", shell], capture_output=True, text=True, check=True, timeout=60)
        assert done.stderr == ""
        (folder / f"lm.{shell}").write_text(done.stdout)
    return folder


@pytest.fixture
def offered(scripts, tmp_path):
    """What a shell offers for the last word of a line."""
    cache = tmp_path / "cache" / "lmstream" / "completion.json"
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps({"topics": ["lm.metrics.otlp", "lm.other", *HOSTILE]}))
    env = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def ask(shell, *words):
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        *done, last = words
        script = scripts / f"lm.{shell}"
        if shell == "bash":
            program = f'source {script}; COMP_WORDS=(lmstream "$@"); COMP_CWORD=$#; _lmstream; printf "%s\\n" "${{COMPREPLY[@]}}"'
            command = ["bash", "--norc", "-c", program, "-", *words]
        elif shell == "zsh":
            program = (
                'compadd() { shift; print -l -- "$@" }; _files() { print FILES }; '
                "_describe() { print -l -- ${found%%:*} }; "
                f'words=(lmstream "$@"); CURRENT=$#words; PREFIX=$words[-1]; source {script}; _lmstream'
            )
            command = ["zsh", "-f", "-c", program, "-", *words]
        else:
            line = " ".join(["lmstream", *done, last])
            command = ["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"]
        ran = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False, cwd=tmp_path)
        assert not (tmp_path / "owned").exists()
        found = [line.partition("\t")[0] for line in ran.stdout.splitlines()]
        return [each for each in found if each.startswith(last)] if shell == "zsh" else found

    return ask


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_verb_and_every_flag_of_the_parser(scripts, shell):
    script = (scripts / f"lm.{shell}").read_text()
    for name in verbs():
        node = parser()
        for part in name.split(" "):
            node = node[part]
        assert name in script
        if any(other.startswith(f"{name} ") for other in verbs()):
            continue
        for each in node.assemble_argument_collection():
            flag = each.names[0]
            if each.show and flag.startswith("--"):
                typed = f"-l {flag[2:]} " if shell == "fish" else flag
                assert typed in script, (name, flag)


def test_the_tree_has_no_flag_that_the_parser_refuses():
    globals_ = {"--help", "-q", "-v", "--debug"}
    for verb in tree():
        names = {flag.name for flag in verb.flags}
        assert globals_ <= names
        assert len(names) == len(verb.flags)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "some", "not_there"),
    [
        (("ve",), {"verify", "version"}, {"run"}),
        (("dlq", ""), {"ls", "show", "replay"}, {"run"}),
        (("dlq", "ls", "--rea"), {"--reason"}, {"--topic"}),
        (("run", "--start-from", ""), {"earliest", "latest"}, {"--org"}),
        (("run", "--topic", "lm."), {"lm.metrics.otlp", "lm.other"}, set()),
        (("schema", "s"), {"sql"}, {"glue"}),
        (("explain", "LMS-10"), {"LMS-1001", "LMS-1002"}, {"LMS-2001"}),
        (("dlq", "ls", "--reason", "decode."), {"decode.json"}, {"value.nan"}),
    ],
)
def test_a_shell_offers_what_fits(offered, shell, words, some, not_there):
    found = set(offered(shell, *words))
    assert some <= found
    assert not not_there & found


@pytest.mark.parametrize("shell", SHELLS)
def test_names_of_somebody_else_are_never_run_by_a_shell(offered, shell):
    found = set(offered(shell, "run", "--topic", ""))
    assert "ok.topic" in found
    assert not found & (set(HOSTILE) - {"ok.topic"})


def test_values_are_the_codes_and_reasons_of_today_and_names_that_were_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert set(values("codes")) == {why.code for why in REASONS.values()}
    assert set(values("reasons")) == set(REASONS)
    assert values("topics") == values("nosuch") == []
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    remember("topics", ["a"])
    assert not place().exists(), "a service leaves nothing behind"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    remember("topics", ["a", "b", *HOSTILE])
    remember("topics", ["c"])
    assert values("topics") == ["c", "a", "b", "ok.topic"]
    assert place().stat().st_mode & 0o777 == 0o600
    remember("topics", [f"t{n}" for n in range(2 * MOST)])
    assert len(values("topics")) == MOST


@pytest.mark.parametrize("text", ["", "[]", "{", '{"topics": 3}', '{"topics": [3, "t"]}', "\udcff"])
def test_a_broken_cache_offers_what_is_left_of_it(tmp_path, monkeypatch, text):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place().parent.mkdir()
    place().write_bytes(text.encode("utf-8", "surrogateescape"))
    assert values("topics") in ([], ["t"])


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "lmstream").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    remember("topics", ["a"])
    assert values("topics") == []


def test_values_take_less_than_100_ms_of_cpu_and_import_nothing_heavy(tmp_path):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    took = []
    for kind in KINDS * 2:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "lmstream", "__values", kind], check=True, env=env, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.1
    program = "import sys; from lmstream.cli import main; main(['__values', 'codes']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    assert not {"cyclopts", "rich", "msgspec", "logging", "lmstream.errors"} & set(done.stdout.split())


def test_what_a_person_reads_is_offered_next_time(cli, tmp_path, monkeypatch, bundles):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    folder, _ = bundles(1)
    assert cli("inspect", folder / "000.json", "--rows", "--org", "a").code == 0
    assert "CpuUsage" in values("metrics")
    cli("config", "show", "--topic", "lm.seen", "--bootstrap", "b:1", "--group", "g")
    assert values("topics") == ["lm.seen"]
