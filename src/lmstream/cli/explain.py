"""`lmstream explain`: the section of the runbook for a code or an alarm, with nothing but this installation at hand."""

import re
import shutil
import sys
import textwrap
from typing import Annotated, Final

from cyclopts import Parameter

from lmstream.cli import terminal
from lmstream.cli.tables import Column, Wide, table
from lmstream.observability.runbook import Section, alarms, codes, find, group

_NARROW, _WIDE = 40, 100
_COMMAND: Final = re.compile(r"`[^`]+`")
_SPACE: Final = "\x00"


def explain(
    *names: str,
    wide: Wide = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Explain a code or an alarm: meaning, what to look at, how to fix it. Does not connect.

    Parameters
    ----------
    names
        Codes (LMS-3005, or 3005), reasons (source.offset), alarms (time-to-data-loss). Without any: list all.
    wide
        Show the list in full, one line for each, however wide the terminal is.
    as_json
        Print one JSON object per section and line.
    """
    found = [find(name) for name in names] or [*alarms(), *codes()]
    if as_json:
        terminal.print_lines(found)
    elif names:
        print("\n\n".join(text(each) for each in found))
    else:
        rows = [(each.name, each.also, _first(each.means)) for each in found]
        table((Column("name", 1, "id"), Column("reason", 3, "id"), Column("means", 2, "prose")), rows, wide=wide)
    return 0


def text(section: Section) -> str:
    """A section for people: as wide as the terminal, plain elsewhere."""
    width = min(max(shutil.get_terminal_size((_WIDE, 24)).columns, _NARROW), _WIDE)

    def wrapped(item: str, mark: str) -> str:
        # Commands stay on one line: what is copied must run.
        whole = _COMMAND.sub(lambda found: found[0].replace(" ", _SPACE), item)
        filled = textwrap.fill(
            whole,
            width,
            initial_indent=mark,
            subsequent_indent=" " * len(mark),
            break_on_hyphens=False,
            break_long_words=False,
        )
        return filled.replace(_SPACE, " ")

    about = f" ({group(section.name).lower()})" if section.name.startswith("LMS-") else ""
    lines = [_strong(f"{section.name}  {section.also}") + about, "", wrapped(section.means, "  ")]
    for title, items, mark in (("Look at", section.look, "  - "), ("Fix", section.fix, "  - ")):
        if items:
            lines += ["", _strong(title), *(wrapped(item, mark) for item in items)]
    return "\n".join(lines)


def _strong(words: str) -> str:
    return f"\033[1m{words}\033[0m" if terminal.styled(sys.stdout) else words


def _first(words: str) -> str:
    head, stop, _ = words.partition(". ")
    return head + (stop.strip() if stop else "")
