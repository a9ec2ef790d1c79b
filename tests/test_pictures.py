"""The pictures of the documents: none is missing, none is large, and they show what is printed today."""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lmstream import cli

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
TERMINAL = (ROOT / "docs/terminal.md").read_text("utf-8")
sys.path.insert(0, str(ROOT / "docs/site"))
diagrams, tables, terminal_svg = map(importlib.import_module, ("diagrams", "tables", "terminal_svg"))


def texts(path):
    """What a picture of a terminal says, line by line: words that stand apart are apart."""
    found = {}
    for each in ET.fromstring(path.read_text("utf-8")).iter("{http://www.w3.org/2000/svg}text"):
        found.setdefault(float(each.get("y")), []).append(each.text)
    return [found[y] for y in sorted(found)]


def test_every_verb_with_a_table_has_a_picture_at_80_columns_on_the_page():
    shown = {" ".join(each.typed.split()[:2]) for each in tables.SHOWN.values()}
    for name in cli.verbs():
        group, _, below = name.partition(" ")
        verb = getattr(importlib.import_module(f"lmstream.cli.{group}"), below or group, None)
        if verb is not None and "wide" in inspect.signature(verb).parameters:
            assert any(f"{each} ".startswith(f"{name} ") for each in shown), name
    for name in tables.SHOWN:
        assert f"](images/terminal/{name}.svg)" in TERMINAL
    assert {path.stem for path in (IMAGES / "terminal").iterdir()} == set(tables.SHOWN)


def test_no_picture_is_large_and_each_is_used():
    pages = "".join(path.read_text("utf-8") for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    for path in IMAGES.rglob("*.*"):
        assert path.stat().st_size < 200_000, path.name
        assert path.parent.name == "diagrams" or f"images/{path.relative_to(IMAGES)})" in pages, path.name


def test_no_picture_shows_a_path_of_a_machine_or_asks_the_network():
    for path in IMAGES.rglob("*.svg"):
        text = path.read_text("utf-8")
        assert not re.search(r"/(tmp|root|home|work)\b", text), path.name
        assert set(re.findall(r"https?://[^\"' )]+", text)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
            "http://www.w3.org/1999/xhtml",
        }, path.name


def test_every_diagram_has_its_picture_light_and_dark_and_no_picture_is_left_over():
    wanted = {f"{name}{mode}" for name in diagrams.blocks() for mode in ("", "-dark")}
    assert {path.stem for path in (IMAGES / "diagrams").iterdir()} == wanted, "make pictures"


def test_the_site_shows_pictures_of_diagrams_and_fetches_no_script():
    page = diagrams.pictured((ROOT / "docs/concepts.md").read_text("utf-8"), "images/")
    assert "```mermaid" not in page
    assert page.count("#only-light)") == page.count("#only-dark)") >= 1
    with pytest.raises(FileNotFoundError, match="make pictures"):
        diagrams.pictured("```mermaid\nflowchart TB\n  a --> b\n```\n", "images/")


def test_colours_are_told_apart_on_light_and_on_dark():
    def light(colour):
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for palette in (terminal_svg.LIGHT, terminal_svg.DARK):
        for name in set(palette) - {"paper", "edge"}:
            some = sorted((light(palette["paper"]), light(palette[name])))
            assert (some[1] + 0.05) / (some[0] + 0.05) >= 4.5, name


def test_a_picture_has_the_text_its_styles_and_its_columns(tmp_path):
    shown = "name   \x1b[1;31mwrong: <x>\x1b[0m  日本\n" + "a" * 100
    (tmp_path / "p.svg").write_text(terminal_svg.svg("title", shown), "utf-8")
    assert texts(tmp_path / "p.svg") == [["name", "wrong: <x>", "日本"], ["a" * 80], ["a" * 20]]
    drawn = (tmp_path / "p.svg").read_text("utf-8")
    assert 'class="red b">wrong: &lt;x&gt;<' in drawn
    assert "\x1b" not in drawn


@pytest.mark.slow
def test_pictures_show_what_verbs_print_today(tmp_path):
    command = [sys.executable, ROOT / "docs/site/tables.py", "--to", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    for name, picture in tables.SHOWN.items():
        now, kept = (texts(folder / f"{name}.svg") for folder in (tmp_path, IMAGES / "terminal"))
        if picture.clock:
            now, kept = (re.sub(r"\d+", "0", str(each)) for each in (now, kept))
        assert now == kept, f"{name}: make pictures"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here")
def test_a_browser_takes_a_picture_of_a_page(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("<body style='background:#123456'>")
    program = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[1]); from screens import *\n"
        "async def main():\n"
        "    async with Browser(chromium()) as browser:\n"
        "        with served(Path(sys.argv[2])) as url:\n"
        "            return await browser.take(url, Screen('index.html', 64, 48))\n"
        "sys.stdout.buffer.write(asyncio.run(main()))"
    )
    command = [sys.executable, "-c", program, ROOT / "docs/site", tmp_path / "site"]
    made = subprocess.run(command, capture_output=True, check=True, timeout=200).stdout
    assert made[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(made[16:20], "big"), int.from_bytes(made[20:24], "big")) == (64, 48)
