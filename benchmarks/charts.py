"""Charts as SVG text: bars and lines, with ticks at round numbers, in colours for light and dark."""

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

LIGHT = {"ink": "#1c2430", "soft": "#5b6675", "grid": "#dde2e8", "paper": "#ffffff", "a": "#1f6feb", "b": "#b5651d"}
DARK = {"ink": "#e6edf3", "soft": "#9aa7b5", "grid": "#30363d", "paper": "#12171e", "a": "#58a6ff", "b": "#e3a04f"}
WIDTH, BAR, LABELS = 760, 26, 330
MARGIN, TITLE, LEGEND = 12, 26, 22  # around all; heights of the first line and of the second
ZOOM = 3  # of a PNG: 2,280 pixels, 300 to the inch on a page 7.6 inches wide
_FEW = 12  # points of a line that are drawn as dots too: each is a measurement of its own
LETTER = 6.8  # pixels of a letter of 12 in the widest of the fonts that a reader may have
_SMALL = 7  # the same of a legend


class Bar(NamedTuple):
    """One bar; `mark` is a target drawn across it, `shown` the text at its end, `ours` its colour."""

    name: str
    value: float
    shown: str
    ours: bool = False
    mark: float | None = None


def _text(x: float, y: float, text: str, *, colour: str = "ink", size: int = 13, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="var(--{colour})" font-size="{size}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    wide, high = WIDTH + 2 * MARGIN, height + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-MARGIN} {-MARGIN} {wide} {high:.0f}" width="{wide}" '
        f'height="{high:.0f}" role="img" aria-label="{escape(title)}" font-family="Roboto, system-ui, sans-serif">'
        f'<path d="M{-MARGIN} {-MARGIN}h{wide}v{high:.0f}h{-wide}z" fill="var(--paper)"/>'
        f"{_text(0, 16, title, size=16)}{''.join(parts)}</svg>"
    )


def _legend(names: Mapping[str, str]) -> list[str]:
    """What the colours mean, in a line of its own under the title: name of a colour by what it stands for."""
    parts, x = [], 0.0
    for name, colour in names.items():
        parts.append(f'<path d="M{x:.1f} {TITLE + 6}h14" stroke="var(--{colour})" stroke-width="4"/>')
        parts.append(_text(x + 20, TITLE + 10, name, colour="soft", size=12))
        x += 44 + _SMALL * len(name)
    return parts


def bars(title: str, given: Sequence[Bar], meaning: tuple[str, str] | None = None) -> str:
    """Horizontal bars from zero; `meaning` says what the colour of `ours` is, and the other one."""
    most = max([bar.value for bar in given] + [bar.mark for bar in given if bar.mark] + [1e-9])
    left = max([LABELS, *(LETTER * len(bar.name) + 12 for bar in given)])
    scale = (WIDTH - left - 90) / most
    parts = _legend(dict(zip(meaning, "ab", strict=True))) if meaning else []
    top = TITLE + (LEGEND if meaning else 0) + 8
    for number, bar in enumerate(given):
        y = top + number * BAR
        width = max(1.0, bar.value * scale)
        parts.append(_text(left - 8, y + 13, bar.name, colour="soft", anchor="end", size=12))
        parts.append(
            f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="17" rx="2" '
            f'fill="var(--{"a" if bar.ours else "b"})"><title>{escape(f"{bar.name}: {bar.shown}")}</title></rect>'
        )
        end = width
        if bar.mark is not None:
            at = left + bar.mark * scale
            parts.append(f'<path d="M{at:.1f} {y - 3}v23" stroke="var(--ink)" stroke-width="2"/>')
            end = max(width, bar.mark * scale)
        parts.append(_text(left + end + 6, y + 13, bar.shown, size=12))
    return _svg(top + len(given) * BAR, title, parts)


def ticks(most: float, wanted: int = 5) -> list[float]:
    """Round numbers from zero to `most` or just above: steps of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (most if most > 0 else 1.0) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= rough * (1 - 1e-9))
    return [number * step for number in range(math.ceil(most / step - 1e-9) + 1 if most > 0 else 2)]


def labels(values: Sequence[float]) -> list[str]:
    """Ticks as text: with as many decimals as tell them apart, and no more."""
    for decimals in range(10):
        found = [f"{value:,.{decimals}f}" for value in values]
        if all(
            math.isclose(float(text.replace(",", "")), v, abs_tol=1e-12) for text, v in zip(found, values, strict=True)
        ):
            break
    return found


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_unit: str, y_unit: str) -> str:
    """Lines over a common x axis; both axes begin at zero, and say what they count."""
    several = len(series) > 1
    left, wide, high = 60.0, WIDTH - 80.0, 200.0
    top = TITLE + (LEGEND if several else 0) + 24.0
    points = [point for each in series.values() for point in each]
    most = max((x for x, _ in points), default=1.0) or 1.0
    across = [tick for tick in ticks(most) if tick <= most]  # the line ends where the axis does
    up = ticks(max((y for _, y in points), default=1.0))
    parts = _legend(dict(zip(series, "ab", strict=False))) if several else []
    parts.append(_text(0, top - 10, y_unit, colour="soft", size=12))
    for value, label in zip(up, labels(up), strict=True):
        y = top + high - high * value / up[-1]
        parts.append(f'<path d="M{left} {y:.1f}h{wide}" stroke="var(--grid)"/>')
        parts.append(_text(left - 8, y + 4, label, colour="soft", size=12, anchor="end"))
    for value, label in zip(across, labels(across), strict=True):
        x = left + wide * value / most
        parts.append(f'<path d="M{x:.1f} {top + high}v5" stroke="var(--soft)"/>')
        parts.append(_text(x, top + high + 19, label, colour="soft", size=12, anchor="middle"))
    parts.append(_text(left + wide / 2, top + high + 38, x_unit, colour="soft", size=12, anchor="middle"))
    for colour, each in zip("ab", series.values(), strict=False):
        at = [(left + x / most * wide, top + high - y / up[-1] * high) for x, y in each]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{path}" fill="none" stroke="var(--{colour})" stroke-width="2"/>')
        dots = at if len(at) <= _FEW else []
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="var(--{colour})"/>' for x, y in dots]
    return _svg(top + high + 44, title, parts)


def filled(svg: str, palette: Mapping[str, str]) -> str:
    """The chart with fixed colours, for what knows no style sheet."""
    for name, colour in palette.items():
        svg = svg.replace(f"var(--{name})", colour)
    return svg


def adaptive(svg: str) -> str:
    """The chart as a file of its own: light, and dark for who prefers that. What knows no styles shows it light."""
    found = re.sub(
        r'(fill|stroke)="var\(--(\w+)\)"',
        lambda use: f'{use[1]}="{LIGHT[use[2]]}" class="{use[1]}-{use[2]}"',
        svg,
    )
    dark = "".join(f".{what}-{name}{{{what}:{c}}}" for name, c in DARK.items() for what in ("fill", "stroke"))
    head, close, rest = found.partition(">")
    return f"{head}{close}<style>@media(prefers-color-scheme:dark){{{dark}}}</style>{rest}\n"


def png(svg: str, palette: Mapping[str, str] = LIGHT) -> bytes:
    """The chart as PNG for print, with the font of the package font-roboto. Needs the group `dev`."""
    import font_roboto
    import resvg_py

    made: bytes = resvg_py.svg_to_bytes(
        svg_string=filled(svg, palette),
        background=palette["paper"],
        zoom=ZOOM,
        skip_system_fonts=True,
        font_files=[str(Path(font_roboto.__file__).parent / "files" / "Roboto-Regular.ttf")],
        font_family="Roboto",
        sans_serif_family="Roboto",
    )
    return bytes(made)
