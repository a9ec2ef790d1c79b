"""The diagrams of the documents as pictures, so that the site fetches no script to draw them, and shows them on paper.

    make pictures    # with mermaid.min.js of the npm package mermaid, and Chromium

Each `mermaid` block has a light and a dark picture in docs/images/diagrams, named by the block's digest: a block that
was changed has none, which `make site` and a test say.
"""

import asyncio
import hashlib
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PICTURES: Final = ROOT / "docs" / "images" / "diagrams"
BLOCK: Final = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CLOSE: Final = {
    "htmlLabels": False,
    "nodeSpacing": 24,
    "rankSpacing": 30,
    "padding": 10,
    "subGraphTitleMargin": {"top": 4, "bottom": 12},
}
"""So that letters are large enough in a column of text."""
_THEMES: Final = {"": "neutral", "-dark": "dark"}


def name(block: str) -> str:
    """What the pictures of a block are called."""
    return hashlib.sha256(block.encode()).hexdigest()[:12]


def blocks() -> dict[str, str]:
    """All diagrams of the documents, by name."""
    pages = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    return {name(each): each for page in pages for each in BLOCK.findall(page.read_text("utf-8"))}


def pictured(markdown: str, to: str) -> str:
    """A page with pictures in the place of its diagrams; `to` leads to the images. Raises FileNotFoundError."""

    def picture(found: re.Match[str]) -> str:
        stem = name(found[1])
        if not (PICTURES / f"{stem}.svg").exists():
            raise FileNotFoundError(f"docs/images/diagrams/{stem}.svg: a diagram was changed. Fix: make pictures")
        what = " ".join(re.findall(r'[\["(]([\w ,:./-]{3,})[\])"]', found[1]))[:200].replace("[", "(").replace("]", ")")
        return "".join(
            f"![{what}]({to}diagrams/{stem}{mode}.svg#only-{'dark' if mode else 'light'})" for mode in _THEMES
        )

    return BLOCK.sub(picture, markdown)


async def draw(script: Path, program: str) -> None:
    """Draw every diagram that has no picture, and remove pictures of diagrams that are gone."""
    from screens import Browser, Screen, served

    wanted = blocks()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for path in PICTURES.glob("*.svg"):
        if path.stem.removesuffix("-dark") not in wanted:
            path.unlink()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(script, Path(folder, "mermaid.js"))
        page = "<!doctype html><meta charset=utf-8><script src=mermaid.js></script><body>"
        Path(folder, "index.html").write_text(page, encoding="utf-8")
        async with Browser(program) as browser:
            with served(Path(folder)) as url:
                await browser.take(url, Screen("index.html"))
                for stem, block in wanted.items():
                    for mode, theme in _THEMES.items():
                        to = PICTURES / f"{stem}{mode}.svg"
                        if not to.exists():
                            to.write_text(await _svg(browser, block, theme), encoding="utf-8")


async def _svg(browser, block: str, theme: str) -> str:
    # Labels as text, not as HTML: a picture shows none of that.
    settings = {"startOnLoad": False, "theme": theme, "htmlLabels": False, "flowchart": _CLOSE}
    asked = (
        f"mermaid.initialize({json.dumps(settings)});"
        f"mermaid.render('diagram', {json.dumps(block)}).then(made => made.svg)"
    )
    answer = await browser.do("Runtime.evaluate", expression=asked, awaitPromise=True)
    return answer["result"]["value"] + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from screens import chromium

    asyncio.run(draw(Path(sys.argv[1]), chromium() or sys.exit("no Chromium here")))
