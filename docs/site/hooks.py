"""Pages of the site that lie elsewhere in the repository, and links as the site has them.

Documents are written to be read in the repository, where `../CONTRIBUTING.md` is a file. The site has one folder, so
that such files become pages of it, and links to what is no page become plain text.
"""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
from diagrams import pictured

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks-how.md",
}
"""From a file of the repository to its page."""
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from elsewhere, and the decisions to the menu."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
    decisions = sorted(file.src_uri for file in files if file.src_uri.startswith("decisions/"))
    config.nav = [*config.nav, {"Decisions": decisions}]
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the page's links, code aside."""
    here = {made: source for source, made in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    kept: list[str] = []

    def keep(code: re.Match[str]) -> str:
        kept.append(code[0])
        return f"\0{len(kept) - 1}\0"

    markdown = pictured(markdown, posixpath.relpath("docs/images", posixpath.dirname(here) or ".") + "/")
    text = _LINK.sub(lambda link: _turned(link, here, page.file.src_uri), _FENCE.sub(keep, markdown))
    return re.sub("\0(\\d+)\0", lambda place: kept[int(place[1])], text)


def _turned(link: re.Match[str], here: str, page: str) -> str:
    """A link of the file `here`, as the page has it."""
    picture, words, target = link.groups()
    where, _, anchor = target.partition("#")
    if not where or ":" in where.partition("/")[0]:
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), where))
    to = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
    if to in {"README.md", ""} or not ((ROOT / path).is_file()):
        return words if to != "README.md" else f"[{words}](index.md)"
    relative = posixpath.relpath(to, posixpath.dirname(page) or ".")
    return f"{picture}[{words}]({relative}{'#' + anchor if anchor else ''})"
