"""An error as a small panel for terminals: what, the line it is about, why, the fix, and one command to run next."""

import re
import shlex
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lmstream.cli.terminal import clean
from lmstream.errors import LmstreamError, Spot, reason_of

MOST: Final = 8
"""Mistakes that are shown in full; a terminal has some 40 lines."""
_ROOM: Final = 8  # columns of the labels
_TEXT: Final = 4000  # characters of one text
_HARMLESS: Final = re.compile(r"true|false|[-+]?[0-9][0-9_.:eE+-]*|\[\]|\{\}")
"""Values that are no secret, whatever their key is."""
_FROM: Final = re.compile(r" \(from [^()]*, line \d+\)")
"""Where a setting stands, as a message in one line says it."""
Styled = Callable[[str, str], str]
"""Text in a style of STYLES; the same text where a terminal shows none."""
STYLES: Final = {"error": "1;31", "place": "36", "mark": "1;31", "label": "1"}
"""SGR parameters: https://www.ecma-international.org/publications-and-standards/standards/ecma-48/ 8.3.117."""


def styled(kind: str, text: str) -> str:
    """`text` in a style."""
    return f"\x1b[{STYLES[kind]}m{text}\x1b[0m"


def plain(_: str, text: str) -> str:
    """`text` as it is."""
    return text


def panel(error: LmstreamError, width: int, style: Styled = plain, verb: str = "") -> list[str]:
    """The lines of a panel, at most `width` columns wide where words allow; `verb` is what was run."""
    shown = error.errors[:MOST]
    lines: list[str] = []
    for each in shown:
        lines += [*_what(each, width, style), *_labelled("fix", each.fix, width, style)]
    hidden = len(error.errors) - len(shown)
    if hidden > 0:
        lines.append(f"and {hidden:,} more mistakes")
    for reason in dict.fromkeys(each.reason for each in shown):
        lines += _labelled("why", f"{reason_of(reason).meaning} [{reason}]", width, style)
    # What is to be pasted stays on one line.
    return [*lines, f"  {style('label', 'next')}  {next_command(error, verb)}"]


def next_command(error: LmstreamError, verb: str = "") -> str:
    """One command that helps with the error."""
    first = error.errors[0]
    if first.spot is not None and not first.spot.text:
        return f"lmstream validate --config {shlex.quote(clean(first.spot.file))}"
    if first.reason == "usage.arguments":
        return f"lmstream {verb} --help" if verb else "lmstream --help"
    return f"lmstream explain {first.code}"


def _what(error: LmstreamError, width: int, style: Styled) -> list[str]:
    head = f"error {error.code}: "
    detail = clean(error.detail or reason_of(error.reason).meaning, limit=_TEXT)
    if error.spot is not None:
        detail = _FROM.sub("", detail)  # it is said below
    first, *others = _wrapped(f"{head}{detail}", width) or [head]
    lines = [style("error", first[: len(head)]) + first[len(head) :], *others]
    return lines if error.spot is None else [*lines, *_source(error.spot, detail, width, style)]


def _source(spot: Spot, detail: str, width: int, style: Styled) -> list[str]:
    """The place, and its line underlined, when it can be read."""
    number = str(spot.line)
    edge = " " * len(number)
    lines = [f"{edge}{style('place', '-->')} {clean(spot.file)}:{spot.line}:{spot.column}"]
    if (text := spot.text or _line(spot)) is None:
        return lines
    shown, column, marked = text, spot.column, spot.width
    if not spot.text:
        shown, column, marked = _without_secrets(text, spot, detail)
    shown, column, marked = _window(shown, column, marked, width - len(number) - 3)
    return [
        *lines,
        f"{edge} {style('place', '|')}",
        f"{style('place', number)} {style('place', '|')} {shown}",
        f"{edge} {style('place', '|')} {' ' * (column - 1)}{style('mark', '^' * max(1, marked))}",
    ]


def _line(spot: Spot) -> str | None:
    try:
        lines = Path(spot.file).read_text("utf-8").splitlines()
        return clean(lines[spot.line - 1], limit=_TEXT)
    except (OSError, UnicodeDecodeError, IndexError):  # gone or changed since
        return None


def _without_secrets(line: str, spot: Spot, detail: str) -> tuple[str, int, int]:
    """The line with its value left out, unless the message shows it too or it can be no secret: who looks at a terminal
    may be somebody else. Answers line, column and width of the mark."""
    head, equals, value = line.partition("=")
    bare = value.strip()
    if not equals or head.lstrip().startswith(("[", "#")) or not bare:
        return line, spot.column, spot.width
    if _HARMLESS.fullmatch(bare) or bare in detail or (len(bare) > len('""') and bare.strip("\"'") in detail):
        return line, spot.column, spot.width
    shown = f"{head}= ..."
    if spot.column > len(head):
        return shown, len(head) + 3, 3
    return shown, spot.column, spot.width


def _window(line: str, column: int, marked: int, width: int) -> tuple[str, int, int]:
    """The part of a long line that has the mark in it."""
    marked = max(1, min(marked, width - 2))
    if len(line) <= width:
        return line, column, marked
    start = max(0, min(column - 1 - (width - marked) // 2, len(line) - width))
    shown = line[start : start + width]
    if start:
        shown = "…" + shown[1:]
    if start + width < len(line):
        shown = shown[:-1] + "…"
    return shown, column - start, marked


def _labelled(label: str, text: str, width: int, style: Styled) -> list[str]:
    if not text:
        return []
    first, *others = _wrapped(clean(text, limit=_TEXT), width, _ROOM)
    return [f"  {style('label', label.ljust(_ROOM - 4))}  {first}", *(" " * _ROOM + each for each in others)]


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    # Names and commands are not broken: they are to be copied.
    return textwrap.wrap(text, max(width - indent, 20), break_long_words=False, break_on_hyphens=False)
