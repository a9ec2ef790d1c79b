"""Whether every public name has a complete type: pyright --verifytypes, of the modules that docs/extending.md lists.

Run by `make verify-types`, and by .ci/run, with pyright of an environment of its own; its report is on standard input.
"""

import importlib
import json
import re
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text("utf-8")


def public():
    """The modules of the page's table."""
    (line,) = re.findall(r"^\| modules \| (.*) \|$", PAGE, re.MULTILINE)
    return set(re.findall(r"`(lmstream[\w.]*)`", line))


def named(module):
    """What it says is public: the names in its `__all__`."""
    return set(importlib.import_module(module).__all__)


def main():
    """Print what is not known; answer 1 for anything."""
    symbols = json.load(sys.stdin)["typeCompleteness"]["symbols"]
    names = {f"{module}.{name}" for module in public() for name in named(module)}
    wanted = [
        each
        for each in symbols
        if any(".".join(name.split(".")[:depth]) in names for name in each_name(each) for depth in range(1, 9))
    ]
    bad = [each for each in wanted if not each["isTypeKnown"] or each["isTypeAmbiguous"]]
    for each in bad:
        said = "; ".join(one["message"].split("\n")[0] for one in each.get("diagnostics", ())) or each["category"]
        print(f"{each['name']}: {said}")
    known = len(wanted) - len(bad)
    print(f"{known:,} of {len(wanted):,} public names have a complete type ({known / max(1, len(wanted)):.1%})")
    return 1 if bad or len(wanted) < len(names) // 2 else 0


def each_name(symbol):
    """The name where it is defined, and those under which it is exported."""
    return [symbol["name"], *symbol.get("alternateNames", ())]


if __name__ == "__main__":
    sys.exit(main())
