"""Charts as SVG text: bars and lines, in colours that a page's mode, or a PNG's fixed palette, fills in."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

LIGHT = {"ink": "#1c2430", "soft": "#5b6675", "grid": "#dde2e8", "paper": "#ffffff", "a": "#1f6feb", "b": "#d9822b"}
DARK = {"ink": "#e6edf3", "soft": "#9aa7b5", "grid": "#30363d", "paper": "#12171e", "a": "#58a6ff", "b": "#e3a04f"}
WIDTH, BAR, LABELS = 760, 26, 330


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
    head = _text(0, 18, title, size=16)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title)}" font-family="Roboto, system-ui, sans-serif">'
        f"{head}{''.join(parts)}</svg>"
    )


def bars(title: str, given: Sequence[Bar]) -> str:
    """Horizontal bars from zero."""
    most = max([bar.value for bar in given] + [bar.mark for bar in given if bar.mark] + [1e-9])
    scale = (WIDTH - LABELS - 90) / most
    parts = []
    for number, bar in enumerate(given):
        y = 36 + number * BAR
        width = max(1.0, bar.value * scale)
        parts.append(_text(LABELS - 8, y + 13, bar.name, colour="soft", anchor="end", size=12))
        parts.append(
            f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="17" rx="2" '
            f'fill="var(--{"a" if bar.ours else "b"})"><title>{escape(f"{bar.name}: {bar.shown}")}</title></rect>'
        )
        end = width
        if bar.mark is not None:
            at = LABELS + bar.mark * scale
            parts.append(f'<path d="M{at:.1f} {y - 3}v23" stroke="var(--ink)" stroke-width="2"/>')
            end = max(width, bar.mark * scale)
        parts.append(_text(LABELS + end + 6, y + 13, bar.shown, size=12))
    return _svg(44 + len(given) * BAR, title, parts)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_unit: str, y_unit: str) -> str:
    """Lines over a common x axis; the y axis begins at zero."""
    left, top, wide, high = 60.0, 36.0, WIDTH - 80.0, 200.0
    points = [point for each in series.values() for point in each]
    x_most = max((x for x, _ in points), default=1.0) or 1.0
    y_most = 1.15 * max((y for _, y in points), default=1.0) or 1.0
    parts = []
    for part in range(5):
        y, x = top + high - high * part / 4, left + wide * part / 4
        parts.append(f'<path d="M{left} {y:.1f}h{wide}" stroke="var(--grid)"/>')
        parts.append(_text(left - 6, y + 4, f"{y_most * part / 4:,.0f}", colour="soft", size=11, anchor="end"))
        parts.append(_text(x, top + high + 16, f"{x_most * part / 4:,.0f}", colour="soft", size=11, anchor="middle"))
    parts.append(_text(left + wide, top + high + 32, x_unit, colour="soft", size=11, anchor="end"))
    parts.append(_text(left, top - 6, y_unit, colour="soft", size=11))
    for number, (name, each) in enumerate(series.items()):
        colour = "ab"[number % 2]
        path = " ".join(f"{left + x / x_most * wide:.1f},{top + high - y / y_most * high:.1f}" for x, y in each)
        parts.append(f'<polyline points="{path}" fill="none" stroke="var(--{colour})" stroke-width="2"/>')
        parts.append(_text(left + 130 + 200 * number, top - 6, f"— {name}", colour=colour, size=12))
    return _svg(top + high + 40, title, parts)


def filled(svg: str, palette: Mapping[str, str]) -> str:
    """The chart with fixed colours, for what knows no style sheet."""
    for name, colour in palette.items():
        svg = svg.replace(f"var(--{name})", colour)
    return svg


def png(svg: str) -> bytes:
    """The chart as PNG of twice its size, with the font of the package font-roboto. Needs the group `dev`."""
    import font_roboto
    import resvg_py

    made: bytes = resvg_py.svg_to_bytes(
        svg_string=filled(svg, LIGHT),
        background=LIGHT["paper"],
        zoom=2,
        skip_system_fonts=True,
        font_files=[str(Path(font_roboto.__file__).parent / "files" / "Roboto-Regular.ttf")],
        font_family="Roboto",
        sans_serif_family="Roboto",
    )
    return bytes(made)
