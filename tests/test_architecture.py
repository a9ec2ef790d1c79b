"""docs/architecture.md says what is: its source and sink run as written, its files exist, its packages are all there are."""

import ast
import json
import re
import sqlite3
from itertools import islice
from pathlib import Path

from lmstream.cli import main
from lmstream.lab.generator import Generator

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src/lmstream"
PAGE = (ROOT / "docs/architecture.md").read_text("utf-8")


def fenced(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_source_and_the_sink_of_the_page_run_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "acme").mkdir()
    for text in fenced("python"):
        (tmp_path / re.match(r'"""(acme/\w+\.py):', text)[1]).write_text(text)
    (tmp_path / "lmstream.toml").write_text(fenced("toml")[0])
    bundles = list(islice(Generator(instances=2).bundles(), 250))
    db, landed = sqlite3.connect("outbox.db"), sqlite3.connect("rows.db")
    with db:
        db.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY, bundle BLOB)")
        db.executemany("INSERT INTO outbox (bundle) VALUES (?)", [(one.payload,) for one in bundles] + [(b"junk",)])
    with landed:
        landed.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, row BLOB)")
    assert main(["run", "--config", "lmstream.toml", "--dead-letters", "letters", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    ids = {one for (one,) in landed.execute("SELECT id FROM rows")}
    assert len(ids) == counts["rows"] == sum(one.rows for one in bundles)
    assert counts["undecodable"] == 1
    assert db.execute("SELECT count(*) FROM outbox").fetchone() == (0,), "what is settled is committed"
    db.close()
    landed.close()


def test_every_file_that_the_page_names_exists():
    named = set(re.findall(r"`((?:\w+/)+[\w.]+\.\w+)`", PAGE))
    assert len(named) > 20
    for path in named:
        assert any((root / path).exists() for root in (ROOT, SRC, ROOT / "tests")), path


def test_every_package_is_in_the_table_and_every_module_of_the_root_is_vocabulary():
    table = PAGE.partition("| package |")[2].partition("The vocabulary")[0]
    named = set(re.findall(r"`(\w+)`", table))
    packages = {path.parent.name for path in SRC.glob("*/__init__.py")}
    assert packages <= named | {"aws", "errors"}


def test_private_modules_are_imported_by_their_own_package_alone():
    crossings = []
    for path in SRC.rglob("*.py"):
        package = ".".join(path.relative_to(SRC.parent).parent.parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                owner, private, _ = re.sub(r"\.(_[a-z])", r" \1", name, count=1).partition(" ")
                if private and name.startswith("lmstream.") and not f"{package}.".startswith(f"{owner}."):
                    crossings.append((str(path.relative_to(SRC)), name))
    assert crossings == []
