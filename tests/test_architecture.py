"""docs/architecture.md says what is: its files exist, its packages are all there are."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src/lmstream"
PAGE = (ROOT / "docs/architecture.md").read_text("utf-8")


def test_every_file_that_the_page_names_exists():
    named = set(re.findall(r"`((?:\w+/)+[\w.]+\.\w+)`", PAGE))
    assert len(named) > 20
    for path in named:
        assert any((root / path).exists() for root in (ROOT, SRC, ROOT / "tests")), path


def test_every_package_is_in_the_table_and_every_module_of_the_root_is_vocabulary():
    table = PAGE.partition("| package |")[2].partition("The vocabulary")[0]
    named = set(re.findall(r"`(\w+)`", table))
    packages = {path.parent.name for path in SRC.glob("*/__init__.py")}
    assert packages <= named | {"aws", "errors", "model", "interfaces", "abilities", "spec"}


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
