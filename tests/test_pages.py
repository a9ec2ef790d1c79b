"""Code blocks of the documents are taken at their word: settings load, and what is to be pasted does what it says."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lmstream.config import load
from lmstream.deployment import load as load_deployment
from test_docs import PAGES, blocks

ROOT = Path(__file__).parents[1]
TABLES = {"path", "lake", "container", "cluster", "network", "stream", "transform", "operations", "load"}
"""Of a deployment's settings, which a configuration does not have."""


def of(language):
    found = [(page, n, body) for page in PAGES for n, body in enumerate(blocks(page.read_text("utf-8"), language))]
    return [pytest.param(body, id=f"{page.relative_to(ROOT)}-{n}") for page, n, body in found]


def test_there_is_a_block_of_each_kind():
    assert {language: bool(of(language)) for language in ("toml", "sh", "sql", "python")} == dict.fromkeys(
        ("toml", "sh", "sql", "python"), True
    )


@pytest.mark.parametrize("body", of("toml"))
def test_settings_of_a_page_load(body, tmp_path):
    given = tomllib.loads(body)
    if set(given) & TABLES:
        whole = tomllib.loads((ROOT / "deploy/cdk/settings.toml").read_text("utf-8"))
        for name, value in given.items():
            whole[name] = whole.get(name, {}) | value if isinstance(value, dict) else value
        load_deployment(written(tmp_path / "settings.toml", whole))
        return
    path = tmp_path / "lmstream.toml"
    path.write_text(body)
    load(path, env={})  # raises ConfigError for what is no setting or no value of one


def written(path, settings):
    """A TOML file of plain values and tables of them, which JSON writes as TOML does."""
    plain = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if not isinstance(value, dict)]
    for name, table in settings.items():
        if isinstance(table, dict):
            plain += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    path.write_text("\n".join(plain))
    return path


@pytest.mark.parametrize("body", of("sh"))
def test_what_is_to_be_pasted_is_a_script(body):
    done = subprocess.run(["bash", "-n"], input=body, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("body", of("sql"))
def test_sql_of_a_page_is_sql(body):
    import duckdb

    if "…" in body:
        pytest.skip("an example with parts left out")
    (said,) = duckdb.connect().execute("select json_serialize_sql(?::varchar)", [body]).fetchone()
    assert json.loads(said)["error"] is False, said


@pytest.mark.parametrize("body", of("python"))
def test_python_of_a_page_compiles_and_imports_what_there_is(body):
    compile(body, "a page", "exec")
    for line in body.splitlines():
        if line.startswith(("from lmstream", "import lmstream")):
            exec(line, {})


@pytest.mark.slow
def test_completion_is_set_up_as_the_page_says(tmp_path):
    """Its commands, typed into a home of their own: three files, and bash completes with the first."""
    page = (ROOT / "docs/terminal.md").read_text("utf-8")
    (script,) = [each for each in blocks(page, "sh") if "lmstream completion" in each]
    program = tmp_path / "bin" / "lmstream"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lmstream "$@"\n')
    program.chmod(0o755)
    (tmp_path / ".config/fish/completions").mkdir(parents=True)  # fish makes it at its first start
    env = {**os.environ, "HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-ec", script], check=True, env=env, timeout=120, cwd=tmp_path)
    made = [".local/share/bash-completion/completions/lmstream", ".zsh/completions/_lmstream"]
    for each in [*made, ".config/fish/completions/lmstream.fish"]:
        assert (tmp_path / each).stat().st_size > 1000, each
    ask = f'source {tmp_path / made[0]}; COMP_WORDS=(lmstream vers); COMP_CWORD=1; _lmstream; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", ask], capture_output=True, text=True, env=env, check=True, timeout=60
    )
    assert done.stdout == "version\n"
    if shutil.which("zsh"):  # as ~/.zshrc has it: a folder of $fpath, and compinit
        asked = f"fpath=({tmp_path}/.zsh/completions $fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump; print $_comps[lmstream]"
        found = subprocess.run(
            ["zsh", "-f", "-c", asked], capture_output=True, text=True, env=env, check=True, timeout=60
        )
        assert found.stdout == "_lmstream\n"
