"""Tables for people: as wide as the terminal, names cut in the middle, the least important columns left out."""

import re
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Annotated, Final, Literal, NamedTuple

from cyclopts import Parameter

from lmstream.cli import terminal
from lmstream.cli.terminal import cell

Wide = Annotated[bool, Parameter(name="--wide")]
"""The flag of every verb that prints a table: cut nothing, leave out no column."""
GAP: Final = 2
"""Spaces between columns."""
_LAST: Final = 1000  # place of a column that has none of its own: after all that have
_TEXT: Final = 10  # characters that a text may be cut to: enough to tell names apart by their beginnings and ends
_ID: Final = 60  # of an id: other columns are left out before TOPIC/PARTITION/OFFSET is cut
_PROSE: Final = 24  # of a line of prose: a few words
_HOME: Final = "\x1b[H\x1b[2J"  # to the upper left, and nothing below
_NAMED: Final = 8  # columns that did not fit; a wide table has many
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_WHOLE_CELL: Final = 4000  # characters of a cell where nothing else cuts it: one cell must not be the whole memory


class Column(NamedTuple):
    """A column of a table."""

    name: str
    keep: int = 0
    """When not all columns fit, 1 is kept before 2. 0: after all of these, from left to right."""
    kind: Literal["text", "id", "whole", "count", "prose"] = "text"
    """What may be done to its cells. text: cut in the middle. id: the same, after all texts. whole: never cut, as times
    and what is all numbers. count: the same, with commas at thousands. prose: wrapped between words."""
    least: int = 0
    """Characters below which a text says nothing any more: it is left out instead. 0: that of its kind."""


class Marks(NamedTuple):
    """Characters of a table that are not everywhere."""

    cut: str = "…"
    line: str = "─"


ASCII: Final = Marks("...", "-")
NO_COLUMNS: Final = "none"


class Table(NamedTuple):
    """A table that was laid out."""

    lines: list[str]
    """Header, rule, rows; each at most as wide as asked, if the first column fits at all."""
    left_out: list[str]
    """Names of the columns that did not fit."""


def table(
    columns: Sequence[str | Column], rows: Iterable[Sequence[object]], *, title: str = "", wide: bool = False
) -> None:
    """Print a table on stdout, as wide as COLUMNS or the terminal; `wide`, or a pipe without COLUMNS, cuts nothing.

    Columns that do not fit, the least important, are named on stderr.
    """
    found = lay_out(columns, rows, None if wide else terminal.columns(), marks())
    if title:
        print(terminal.clean(title))
    for line in found.lines:
        print(line)
    if found.left_out:
        some = ", ".join(found.left_out[:_NAMED])
        more = len(found.left_out) - _NAMED
        terminal.say(f"columns left out: {some}{f' and {more:,} more' if more > 0 else ''}; --wide shows all")


def redraw(lines: Sequence[str]) -> None:
    """Print lines in the place of those before, on a terminal that can be drawn over; elsewhere below them."""
    over = terminal.is_terminal(sys.stdout) and not terminal.dumb()
    print((_HOME if over else "") + "\n".join(lines), flush=True)


def marks() -> Marks:
    """The characters of tables that standard output can show."""
    return Marks() if terminal.shows("".join(Marks()), sys.stdout) else ASCII


def lay_out(
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[object]],
    width: int | None,
    marks: Marks = Marks(),  # noqa: B008 - frozen
) -> Table:
    """Lay out a table in `width` characters; None is as wide as it needs to be. Without rows it says "none"."""
    heads = [each if isinstance(each, Column) else Column(each) for each in columns]
    body = [list(row) for row in rows]
    places = [_Place(head, [row[n] for row in body]) for n, head in enumerate(heads)]
    shown = _shown(places, width, len(marks.cut))
    _fit(shown, width, 0 if len(shown) == len(places) else GAP + len(marks.cut))
    more = marks.cut if len(shown) < len(places) else ""
    lines = [_line([place.aligned(place.head) for place in shown], more)]
    lines.append(_line([marks.line * (place.width // len(marks.line)) for place in shown], ""))
    for n in range(len(body)):
        cells = [place.lines(n, marks.cut) for place in shown]
        lines += [
            _line([place.aligned(text) for place, text in zip(shown, level, strict=True)])
            for level in zip_longest(*cells, fillvalue="")
        ]
    if not body:
        lines.append(NO_COLUMNS)
    names = {id(place) for place in shown}
    return Table(lines, [place.head for place in places if id(place) not in names])


def elided(text: str, width: int, cut: str = "…") -> str:
    """`text` in at most `width` columns of a terminal, without its middle when it is longer."""
    if columns_of(text) <= width:
        return text
    room = max(width - len(cut), 0)
    head = _taken(text, room - room // 2)
    tail = _taken(text[::-1], room // 2)[::-1]
    return f"{head}{cut}{tail}"


def columns_of(text: str) -> int:
    """How many columns of a terminal `text` takes: wide characters take two, marks on others none."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) == "Me":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _taken(text: str, width: int) -> str:
    """The beginning of `text` that fits."""
    taken = 0
    for n, char in enumerate(text):
        taken += _columns(char)
        if taken > width:
            return text[:n]
    return text


class _Place:
    """One column, its cells as text, and the width that it gets."""

    def __init__(self, column: Column, values: list[object]) -> None:
        self.kind, self.keep = column.kind, column.keep or _LAST
        self.right = self.kind == "count" or (
            bool(values)
            and any(value is not None for value in values)
            and all(isinstance(value, int | float | None) for value in values)
        )
        if self.right and self.kind == "text":
            self.kind = "whole"
        self.head = cell(column.name)
        self.cells = [self._text(value) for value in values]
        # Without its middle a time says neither the day nor the hour.
        if self.kind == "text" and any(self.cells) and all(_TIME.fullmatch(each) for each in self.cells if each):
            self.kind = "whole"
        self.natural = max([columns_of(self.head), *map(columns_of, self.cells)])
        self.width = self.natural
        least = column.least or {"text": _TEXT, "id": _ID, "prose": _PROSE}.get(self.kind, self.natural)
        self.least = min(self.natural, max(least, columns_of(self.head)))

    def _text(self, value: object) -> str:
        if self.kind == "count" and isinstance(value, int) and not isinstance(value, bool):
            return f"{value:,}"
        return cell(value, limit=_WHOLE_CELL)

    def aligned(self, text: str) -> str:
        room = " " * (self.width - columns_of(text))
        return room + text if self.right else text + room

    def lines(self, row: int, cut: str) -> list[str]:
        text = self.cells[row]
        if columns_of(text) <= self.width:
            return [text]
        if self.kind != "prose":
            return [elided(text, self.width, cut)]
        # Word by word: one that is longer than the line is a name, and a name is not folded.
        words = " ".join(elided(word, self.width, cut) for word in text.split(" "))
        return textwrap.wrap(words, self.width, break_long_words=False, break_on_hyphens=False) or [""]


def _shown(places: list[_Place], width: int | None, mark: int) -> list[_Place]:
    """The columns that fit at their least width, the most important first; the first one always."""
    if width is None or _total([place.least for place in places]) <= width:
        return places
    left = width - mark
    taken: set[int] = set()
    for place in sorted(places, key=lambda each: each.keep):
        if not taken or place.least + GAP <= left:
            taken.add(id(place))
            left -= place.least + GAP
    return [place for place in places if id(place) in taken]


def _fit(places: list[_Place], width: int | None, reserved: int) -> None:
    """Give each column its width: the widest texts are cut first, prose before names, names before ids."""
    if width is None:
        return
    over = _total([place.width for place in places]) + reserved - width
    for kinds in (("prose",), ("text",), ("id",)):
        some = [place for place in places if place.kind in kinds]
        while over > 0 and any(place.width > place.least for place in some):
            widest = max(some, key=lambda place: (place.width > place.least, place.width))
            widest.width -= 1
            over -= 1
    if over > 0 and places[0].kind != "whole":  # not even the first column fits
        places[0].width = max(places[0].width - over, 1)


def _total(widths: list[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _line(cells: list[str], more: str = "") -> str:
    return (" " * GAP).join([*cells, more] if more else cells).rstrip()
