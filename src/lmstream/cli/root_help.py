"""What `lmstream --help` prints: the verbs by what they are used for, from verbs.txt, without the parser."""

import shutil
import textwrap
from typing import Final

from lmstream import __version__
from lmstream.cli.verbs import verbs

ABOUT: Final = "Deliver LogicMonitor metrics bundles as flat rows, and verify that none is lost."
GLOBAL: Final = {
    "--help": "Show the flags of a verb, with examples.",
    "-q": "Say less on stderr: errors alone.",
    "-v": "Say more: log lines of level info; -vv those of level debug. LMSTREAM_LOG=debug is the same.",
    "--debug": "As -vv, with the traceback of an error.",
    "--version": "Show version, commit, Python, extras and engine.",
}
"""Flags that every verb takes."""
_NARROW: Final = 40
_WIDE: Final = 100


def text(width: int | None = None) -> str:
    """The help of all verbs, as wide as the terminal or COLUMNS, from 40 to 100 columns."""
    width = min(max(width or shutil.get_terminal_size((80, 24)).columns, _NARROW), _WIDE)
    shown = {name: verb for name, verb in verbs().items() if " " not in name}
    room = max(map(len, shown)) + 4
    lines = [*textwrap.wrap(f"lmstream {__version__}: {ABOUT}", width), "", "Usage: lmstream VERB [FLAGS]"]
    for group in dict.fromkeys(verb.group for verb in shown.values()):
        lines += ["", group]
        for name, verb in shown.items():
            if verb.group == group:
                lines += _entry(name, verb.text, room, width)
    lines += ["", "With every verb"]
    for flag, said in GLOBAL.items():
        lines += _entry(flag, said, room, width)
    return "\n".join([*lines, "", "New here? Run: lmstream demo"])


def _entry(name: str, said: str, room: int, width: int) -> list[str]:
    return textwrap.wrap(said, width, initial_indent=f"  {name}".ljust(room), subsequent_indent=" " * room)
