"""Change the source in small ways and see whether the tests notice: ledger, pipeline, verification, Lambda's answers.

    make mutants                    all of it, an hour on two cores
    make mutants ARGS="NAME*"       only these, as `mutmut results` names them

mutmut makes the changes and runs the tests that reach each of them (pyproject.toml, [tool.mutmut]). A change that no
test notices must be in docs/mutants.md with the reason; any other ends this with exit 1.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "mutants.md"
UNNOTICED = ("survived", "no tests", "suspicious")
FIX = f"""Fix: write the test that fails for each of these. One that changes nothing, or a text for people alone, goes into
{PAGE.relative_to(ROOT)} as it stands here, below its function, with the reason."""

Change = tuple[str, str]
"""The function, and the line of the table in docs/mutants.md: what was there, what came instead."""


def mutmut(*words: str) -> str:
    """What mutmut says; its progress is for a terminal alone."""
    command = [sys.executable, "-m", "mutmut", *words]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def change(name: str, diff: str) -> Change:
    """One mutant, as the page has it."""
    where = re.sub(r"__mutmut_\d+$", "", name).replace(".x_", "::").replace(".xǁ", "::").replace("ǁ", ".")
    was, now = (
        " ".join(line[1:].strip() for line in diff.splitlines() if line[:1] == sign and line[:3] != 3 * sign)
        for sign in "-+"
    )
    return where, f"| {code(was)} | {code(now)} |"


def code(text: str) -> str:
    """A cell of a table."""
    ticks = "``" if "`" in text else "`"
    return f"{ticks}{text}{ticks}".replace("|", "\\|") if text else "nothing"


def listed(page: str) -> set[Change]:
    """What the page explains."""
    found, where = set(), ""
    for line in page.splitlines():
        if heading := re.match(r"### `([^`]+)`", line):
            where = heading[1]
        elif line.startswith("| "):
            found.add((where, line))
    return found


def sections(changes: Iterable[Change]) -> str:
    """Changes in the form of the page."""
    out = []
    for where, lines in groupby(sorted(changes), lambda each: each[0]):
        rows = [line for _, line in lines]
        out.append("\n".join([f"### `{where}`: {len(rows)}", "", "| was | now |", "|---|---|", *rows, ""]))
    return "\n".join(out)


def main(names: list[str]) -> int:
    """Exit code: 0 when the page has them all, 1 when it has not."""
    shown = None if sys.stderr.isatty() else subprocess.DEVNULL
    env = {**os.environ, "LMSTREAM_TEST_HYPOTHESIS": "mutants"}
    subprocess.run([sys.executable, "-m", "mutmut", "run", *names], cwd=ROOT, check=True, stdout=shown, env=env)
    verdicts = re.findall(r"^\s*(\S+): (.+)$", mutmut("results", "--all", "true"), re.MULTILINE)
    unnoticed = {change(name, mutmut("show", name)) for name, verdict in verdicts if verdict in UNNOTICED}
    known = listed(PAGE.read_text("utf-8"))
    new = unnoticed - known
    tried = sum(verdict != "not checked" for _, verdict in verdicts)
    print(f"{tried:,} changes, {len(unnoticed):,} that no test notices, {len(new):,} of them not in {PAGE.name}")
    gone = {each for each in known - unnoticed if each[0] and not each[1].startswith("| was ")}
    if gone and not names:
        print(
            f"\n{len(gone):,} of the page are noticed by now, or are no change any more: take them out\n\n{sections(gone)}"
        )
    if new:
        print(f"\n{sections(new)}\n{FIX}")
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
