"""The examples are what `lmstream plugin new` writes and what docs/extending.md shows; they run, and pass their tests.

As a script: writes examples and page.
"""

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from lmstream.cli import main, skeletons
from lmstream.lab.generator import Generator

ROOT = Path(__file__).parents[1]
PLUGINS = ROOT / "examples/plugins"
NAMES = {
    "sink": "acme_table",
    "source": "acme_outbox",
    "codec": "acme_csv",
    "transform": "acme_sites",
    "place": "acme_letters",
}
EXTENDING = ROOT / "docs/extending.md"
PAGE = EXTENDING.read_text("utf-8")
BLOCK = re.compile(r"(<!-- (examples/[\w/.]+) -->\n```\w+\n)(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("kind", skeletons.KINDS)
def test_an_example_is_what_the_verb_writes(kind, tmp_path, capsys):
    assert main(["plugin", "new", kind, NAMES[kind], "--dir", str(tmp_path / "made")]) == 0
    made = {path.name: path.read_text("utf-8") for path in (tmp_path / "made").iterdir()}
    assert made == {path.name: path.read_text("utf-8") for path in (PLUGINS / kind).iterdir() if path.is_file()}
    assert {Path(line).name for line in capsys.readouterr().out.splitlines()} == made.keys()


def test_every_block_of_the_page_is_the_file_that_it_names():
    shown = [(path, text) for _, path, text in BLOCK.findall(PAGE)]
    for path, text in shown:
        assert text == (ROOT / path).read_text("utf-8"), path
    parts = {f"examples/plugins/{kind}/{name}.py" for kind, name in NAMES.items()}
    tests = {f"examples/plugins/{kind}/test_{name}.py" for kind, name in NAMES.items()}
    assert {path for path, _ in shown} >= parts | tests | {"examples/plugins/host/acme_host.py"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*NAMES, "host"])
def test_the_tests_of_an_example_pass(kind, tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "pythonpath=.", "--rootdir=."]
    command += ["-c", os.devnull, f"--basetemp={tmp_path / 'of'}", "-W", "ignore::pytest.PytestDeprecationWarning"]
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}"}
    done = subprocess.run(
        command, cwd=PLUGINS / kind, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in NAMES:
        monkeypatch.syspath_prepend(PLUGINS / kind)
    yield tmp_path
    # They are no modules of the tests that come after.
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", "")).startswith(str(PLUGINS)):
            del sys.modules[name]


def test_a_source_and_a_sink_of_ones_own_run_together_from_their_tables(here, capsys):
    (here / "lmstream.toml").write_text(
        "\n".join([(PLUGINS / "source/lmstream.toml").read_text(), '[sink]\ntype = "acme_table"\npath = "rows.db"\n'])
    )
    bundles = list(islice(Generator(instances=2).bundles(), 250))
    with closing(sqlite3.connect("outbox.db")) as db, db:
        db.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY, bundle BLOB)")
        db.executemany("INSERT INTO outbox (bundle) VALUES (?)", [(one.payload,) for one in bundles] + [(b"junk",)])
    assert main(["run", "--config", "lmstream.toml", "--dead-letters", "letters", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    with closing(sqlite3.connect("rows.db")) as landed:
        ids = {one for (one,) in landed.execute("SELECT id FROM rows")}
    assert len(ids) == counts["rows"] == sum(one.rows for one in bundles)
    assert counts["undecodable"] == 1
    with closing(sqlite3.connect("outbox.db")) as db:
        assert db.execute("SELECT count(*) FROM outbox").fetchone() == (0,), "what is settled is committed"


def test_the_codec_runs_by_its_configuration(here, capsys):
    (here / "in.csv").write_text("web-1,cpu,1715263558,1.5\nweb-1,cpu,soon,1.5\n")
    flags = ["--config", str(PLUGINS / "codec/lmstream.toml"), "--files", "in.csv", "--landed", "rows"]
    assert main(["run", *flags, "--json", "--strict"]) == 4
    counts = json.loads(capsys.readouterr().out)
    assert (counts["rows"], counts["rejected"]) == (1, {"acme_csv.number": 1})
    (letter,) = (here / "dead-letters").glob("in.csv/0/*.json")
    assert "data point produced no row, the first is number 0: cpu at line 1" in letter.read_text()


def test_the_transform_runs_by_its_configuration(here, capsys):
    from test_acme_sites import bundle

    some = [bundle("ams-1", "[degF]", 86.0), bundle("test-1", "Cel", 30.0), bundle("web-1", "By", 1.0)]
    (here / "in.jsonl").write_bytes(b"\n".join(some) + b"\n")
    flags = ["--config", str(PLUGINS / "transform/lmstream.toml"), "--files", "in.jsonl"]
    assert main(["run", *flags, "--landed", "rows", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["rows"], counts["dropped"]) == (2, {"acme_sites": 1})
    query = "select deviceName, unit, value, attributes from rows order by deviceName"
    assert main(["query", query, "--landed", "rows", "--json"]) == 0
    ams, web = map(json.loads, capsys.readouterr().out.splitlines())
    assert (ams["unit"], round(ams["value"], 9), ams["attributes"]) == ("Cel", 30.0, {"site": "Amsterdam"})
    assert (web["unit"], web["value"]) == ("By", 1.0)
    assert main(["verify", "--landed", "rows"]) == 0


def test_the_place_and_the_sink_run_by_their_configurations(here, capsys):
    (here / "in.jsonl").write_bytes(next(Generator(instances=1).bundles()).payload + b"\njunk\n")
    for kind in ("place", "sink"):
        (here / f"{kind}.toml").write_text((PLUGINS / kind / "lmstream.toml").read_text())
    assert main(["run", "--config", "place.toml", "--files", "in.jsonl", "--landed", "rows", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dead_letters"] == 1
    with closing(sqlite3.connect("letters.db")) as db:
        (letter,) = db.execute("SELECT letter FROM letters").fetchone()
    assert json.loads(letter)["reason"] == "decode.json"
    assert main(["run", "--config", "sink.toml", "--files", "in.jsonl"]) == 0
    with closing(sqlite3.connect("rows.db")) as db:
        assert db.execute("SELECT count(*) FROM rows").fetchone()[0] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sink", "Acme-Table"], "a module's name has lower-case letters"),
        (["sink", "class"], "a module's name has lower-case letters"),
        (["sink", "json"], "Python or lmstream has a module of this name"),
        (["sink", "local"], "lmstream has a part of this name"),
        (["codec", "otlp_json"], "lmstream has a part of this name"),
        (["boat", "acme_boat"], "boat"),
        (["sink", "acme_table", "--dir", "there"], "there/acme_table.py is there already"),
        (["sink", "acme_table", "--dir", "file/below"], "file/below: Not a directory"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_overwritten(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/acme_table.py").write_text("mine")
    (tmp_path / "file").write_text("")
    assert main(["plugin", "new", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "there/acme_table.py").read_text() == "mine"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["acme_table.py"]


if __name__ == "__main__":
    for each, named in NAMES.items():
        for file, written in skeletons.files(each, named).items():
            (PLUGINS / each / file).write_text(written, encoding="utf-8")
    EXTENDING.write_text(
        BLOCK.sub(lambda block: f"{block[1]}{(ROOT / block[2]).read_text('utf-8')}```", PAGE), encoding="utf-8"
    )
