"""The page of changes that no test notices: what `make mutants` reads of it, and writes for it."""

import re

import pytest

from mutants import run


def test_a_change_is_found_again_as_the_page_has_it():
    diff = '--- a\n+++ b\n@@ -1 +1 @@\n def f():\n-    return x | y\n+    return x & "`"\n'
    found = run.change("lmstream.a.xǁCheckerǁreport__mutmut_12", diff)
    assert found == ("lmstream.a::Checker.report", '| `return x \\| y` | ``return x & "`"`` |')
    assert run.change("lmstream.a.x_f__mutmut_1", "-    extra,\n")[0] == "lmstream.a::f"
    assert run.change("lmstream.a.x_f__mutmut_1", "-    extra,\n")[1] == "| `extra,` | nothing |"
    assert run.listed(run.sections([found])) >= {found}
    assert run.listed("### `other`: 1\n\n" + found[1]) != {found}


@pytest.mark.parametrize("section", re.split(r"^### ", run.PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:])
def test_every_function_of_the_page_is_there_and_its_changes_are_counted(section):
    heading = re.match(r"`lmstream\.([\w.]+)::(?:\w+\.)?(\w+)`: (\d+)\n", section)
    module, function, count = heading.groups()
    source = (run.ROOT / "src/lmstream" / f"{module.replace('.', '/')}.py").read_text("utf-8")
    assert f"def {function}(" in source
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) == int(count) > 0
    for row in rows:
        was = re.match(r"\| (`+)(.*?)\1 \| ", row)[2].replace("\\|", "|")
        assert " ".join(was.split()) in " ".join(source.split()), was
