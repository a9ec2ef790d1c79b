"""A lake whose rows a module of its user made: what lands, what its claims name, and what happens to other code."""

import gzip
import json
import sys
from itertools import islice

import pytest

from lmstream.cli import main
from lmstream.lab.generator import Generator
from lmstream.lake.layout import Layout
from lmstream.settings import Settings

BUNDLES = list(islice(Generator().bundles(), 20))
NAME = "acme_of_a_lake"
MODULE = """
from msgspec.structs import replace


class Transform:
    def __init__(self, settings):
        pass

    def apply(self, rows):
        return [replace(row, unit="{unit}", scope={{}}) for row in rows if not row.row_id.endswith(":1")]
"""
CONFIG = """
[engine]
org_id = "acme"
transform = "{name}"
[sink]
type = "local"
root = "rows"
format = "{form}"
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the module anew, as another version of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(one.payload for one in BUNDLES) + b"\n")

    def written(unit):
        (tmp_path / f"{NAME}.py").write_text(MODULE.format(unit=unit))
        sys.modules.pop(NAME, None)

    yield written
    sys.modules.pop(NAME, None)


def said(capsys, *words):
    code = main([*words, "--config", "lmstream.toml"])
    return code, capsys.readouterr()


@pytest.mark.parametrize("form", ["gzip", "parquet"])
def test_rows_land_as_the_module_made_them_and_are_verified_by_its_source(form, write, tmp_path, capsys):
    write("one")
    (tmp_path / "lmstream.toml").write_text(CONFIG.format(name=NAME, form=form))
    code, told = said(capsys, "run", "--files", "in.jsonl", "--json")
    counts = json.loads(told.out)
    assert (code, set(counts["dropped"])) == (0, {NAME})
    assert counts["rows"] + counts["dropped"][NAME] == sum(one.rows for one in BUNDLES)
    query = "select count(*) as n, count(distinct rowId) as ids, min(unit) as low, max(unit) as high from rows"
    assert main(["query", query, "--landed", "rows", "--json"]) == 0
    landed = json.loads(capsys.readouterr().out)
    assert landed == {"n": counts["rows"], "ids": counts["rows"], "low": "one", "high": "one"}
    (layout,) = (tmp_path / "rows/_lmstream/settings").glob("*.json")
    (module,) = json.loads(layout.read_bytes())["modules"]
    mine = Layout.of(Settings(org_id="acme", transform=NAME), form)
    assert (module["name"], module["source"]) == (NAME, mine.modules[0].source)
    assert said(capsys, "verify", "--landed", "rows")[0] == 0


def test_a_window_is_repaired_by_the_source_that_its_claim_names_and_by_no_other(write, tmp_path, capsys):
    write("one")
    (tmp_path / "lmstream.toml").write_text(CONFIG.format(name=NAME, form="gzip"))
    assert said(capsys, "run", "--files", "in.jsonl")[0] == 0
    gone = next((tmp_path / "rows/acme").rglob("*.ndjson.gz"))
    before = gone.read_bytes()
    gone.unlink()
    repair = ("lake", "repair", "--files", "in.jsonl", "--landed", "rows", "--yes")
    write("two")
    code, told = said(capsys, *repair)
    assert code == 1
    assert "LMS-4022" in told.err
    assert f"{NAME} (source " in told.err
    assert not gone.exists()
    write("one")
    assert said(capsys, *repair)[0] == 0
    assert gzip.decompress(gone.read_bytes()) == gzip.decompress(before)
