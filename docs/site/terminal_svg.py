"""What a terminal shows, as an SVG: text as text, light and dark, with no font or anything else from the network."""

import io
import itertools
import re
from html import escape

from lmstream.cli.tables import columns_of

CHAR, LINE, SIZE, PAD = 8.4, 18, 14, 16  # pixels: of a letter, a line, the font, around all
LIGHT = {
    "paper": "#ffffff",
    "edge": "#d0d7de",
    "ink": "#1c2430",
    "dim": "#66707c",
    "red": "#b3261e",
    "green": "#1a6f35",
    "yellow": "#8a5a00",
    "blue": "#0b57d0",
    "magenta": "#8a3ea8",
    "cyan": "#0b6b7a",
}
DARK = {
    "paper": "#12171e",
    "edge": "#30363d",
    "ink": "#e6edf3",
    "dim": "#9aa7b5",
    "red": "#ff8a80",
    "green": "#7ee2a0",
    "yellow": "#f0c36d",
    "blue": "#8ab4ff",
    "magenta": "#d8a6f0",
    "cyan": "#7fd7e6",
}
"""Colours that are told apart on their paper: each has a contrast of 4.5 or more to it."""
_ANSI = ("dim", "red", "green", "yellow", "blue", "magenta", "cyan", "ink")
_RUN = re.compile(r"\S+(?: \S+)*")
"""Words of one run: two spaces are the gap between columns, and each column is placed by itself."""


def svg(title: str, shown: str, width: int = 80) -> str:
    """A terminal of `width` columns and what it shows, with its styles: escapes are read, and not written."""
    lines = [part for line in shown.rstrip("\n").split("\n") for part in _folded(_read(line), width)]
    wide, high = width * CHAR + 2 * PAD, len(lines) * LINE + 2 * PAD
    body = [part for number, line in enumerate(lines) for part in _line(line, PAD + (number + 0.75) * LINE)]
    colours = "".join(f".{name}{{fill:{colour}}}" for name, colour in DARK.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high}" width="{wide:.0f}" height="{high}" '
        f'role="img" aria-label="{escape(title)}" font-size="{SIZE}" '
        f"font-family=\"ui-monospace, 'SFMono-Regular', Menlo, Consolas, 'DejaVu Sans Mono', monospace\">\n"
        f"<style>.b{{font-weight:bold}}@media(prefers-color-scheme:dark){{{colours}.e{{stroke:{DARK['edge']}}}}}</style>\n"
        f'<rect x="0.5" y="0.5" width="{wide - 1:.0f}" height="{high - 1}" rx="8" fill="{LIGHT["paper"]}" '
        f'stroke="{LIGHT["edge"]}" class="paper e"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


Style = tuple[str, bool]
"""A colour's name, and whether it is bold."""


def _folded(line: tuple[str, list[Style]], width: int) -> list[tuple[str, list[Style]]]:
    """A line as a terminal shows it: what is longer goes on in the next one."""
    plain, styles = line
    parts = []
    while columns_of(plain) > width:
        at = next(n for n in range(len(plain), 0, -1) if columns_of(plain[:n]) <= width)
        parts.append((plain[:at], styles[:at]))
        plain, styles = plain[at:], styles[at:]
    return [*parts, (plain, styles)]


def _line(line: tuple[str, list[Style]], y: float) -> list[str]:
    plain, styles = line
    parts = []
    for run in _RUN.finditer(plain):
        for start, end in _alike(styles, run.start(), run.end()):
            text = plain[start:end]
            first = start + len(text) - len(text.lstrip(" "))
            if text := text.strip(" "):
                parts.append(_text(PAD + columns_of(plain[:first]) * CHAR, y, text, *styles[start]))
    return parts


def _text(x: float, y: float, text: str, name: str, bold: bool) -> str:  # noqa: FBT001 - a style
    style = f"{name} b" if bold else name
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" textLength="{columns_of(text) * CHAR:.1f}" lengthAdjust="spacingAndGlyphs" '
        f'fill="{LIGHT[name]}" class="{style}">{escape(text, quote=False)}</text>'
    )


def _alike(styles: list[Style], start: int, end: int) -> list[tuple[int, int]]:
    cuts = [start, *(n for n in range(start + 1, end) if styles[n] != styles[n - 1]), end]
    return list(itertools.pairwise(cuts))


def _read(line: str) -> tuple[str, list[Style]]:
    """A line without escapes, and the style of each character."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=io.StringIO(), width=1000, color_system="truecolor")
    plain = ""
    styles: list[Style] = []
    for part in Text.from_ansi(line).render(console):
        name = "dim" if part.style and part.style.dim else "ink"
        if part.style and part.style.color is not None and part.style.color.number is not None:
            name = _ANSI[part.style.color.number % 8] if part.style.color.number < 16 else name
        plain += part.text
        styles += [(name, bool(part.style and part.style.bold))] * len(part.text)
    plain = plain.rstrip("\n")
    return plain, styles[: len(plain)]
