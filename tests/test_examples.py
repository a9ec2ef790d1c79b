"""The examples do what their page says."""

import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from lmstream.cli import main
from lmstream.lab.generator import Generator

EXAMPLES = Path(__file__).parents[1] / "examples"
BUNDLES = list(islice(Generator(devices=3).bundles(), 5))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with bundles, to run in."""
    (tmp_path / "bundles").mkdir()
    for number, bundle in enumerate(BUNDLES):
        (tmp_path / f"bundles/{number}.json").write_bytes(bundle.payload)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(script, *arguments, given=b""):
    command = [sys.executable, EXAMPLES / script, *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=False, env=os.environ)


def test_the_page_names_every_example():
    named = set(re.findall(r"\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text("utf-8")))
    assert named == {path.name for path in EXAMPLES.iterdir() if path.name != "README.md"}


def test_rows_come_out_of_one_bundle():
    done = said("rows.py", given=BUNDLES[0].payload)
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (0, BUNDLES[0].rows, b"")
    refused = said("rows.py", given=b"junk")
    assert refused.returncode == 1
    assert b"no bundle: LMS-1002" in refused.stderr


def test_bundles_become_an_arrow_table(folder):
    done = said("arrow.py", *sorted(map(str, folder.glob("bundles/*"))))
    assert done.returncode == 0, done.stderr
    counted = re.findall(r"^(\w+): -?[\d.]+ of (\d+) rows$", done.stdout.decode(), re.MULTILINE)
    assert sum(int(rows) for _, rows in counted) == sum(bundle.rows for bundle in BUNDLES)


def test_files_land_in_a_folder_and_are_asked(folder, capsys):
    assert main(["run", "--config", str(EXAMPLES / "files.toml"), "--files", "bundles"]) == 0
    assert (folder / "landed").is_dir()
    capsys.readouterr()
    sql = (EXAMPLES / "busiest.sql").read_text("utf-8")
    assert main(["query", sql, "--landed", "landed", "--csv"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "deviceName,rows,metrics"
    assert 1 <= len(rows) <= 5


def test_the_lake_passes_validate_but_for_files_that_are_the_users(monkeypatch, capsys):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    main(["validate", "--config", str(EXAMPLES / "lake.toml")])
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed")]
    assert failed == ["failed   source: ca.pem: No such file or directory"]
