"""What this installation is: version, commit, Python, extras, engine."""

import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from lmstream import __version__
from lmstream.native import engine

UNKNOWN: Final = "unknown"
_BUILT: Final = "commit.txt"  # written by hatch_build.py
_HEX: Final = re.compile(r"[0-9a-f]{40,64}")
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+).*?\bextra\s*==\s*['\"]([a-z0-9-]+)['\"]")
_PLATFORM: Final = re.compile(r"sys_platform\s*==\s*['\"](\w+)['\"]")
_SHORT: Final = 12  # digits of a commit for people


def about() -> dict[str, Any]:
    """The facts, as `lmstream version --json` prints them."""
    there, missing = extras()
    return {
        "version": __version__,
        "commit": commit(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": f"{platform.system()} {platform.machine()}",
        "extras": there,
        "extras_missing": missing,
        "engine": engine(),
    }


def text() -> str:
    """The same for people."""
    facts = about()
    known = facts["commit"] != UNKNOWN
    lines = {
        "commit": facts["commit"][:_SHORT] if known else UNKNOWN,
        "python": f"{facts['python']} ({facts['implementation']}, {facts['platform']})",
        "extras": ", ".join(facts["extras"]) or "none",
        "missing": ", ".join(facts["extras_missing"]) or "none",
        "engine": facts["engine"],
    }
    return "\n".join([f"lmstream {facts['version']}", *(f"{name:9}{said}" for name, said in lines.items())])


def commit(package: Path) -> str:
    """The commit that a package was built from, or that its checkout stands at; "unknown" when neither is there."""
    try:
        return (package / _BUILT).read_text("ascii").strip() or UNKNOWN
    except (OSError, UnicodeDecodeError):
        root = package.parents[1]
        # src/lmstream of its own repository, and not an installation inside some other one.
        own = package.parent.name == "src" and (root / "pyproject.toml").exists()
        return (_head(root / ".git") if own else "") or UNKNOWN


def _head(git: Path) -> str:
    """Where HEAD of a repository is, read from its files: asking git takes longer than all the rest."""
    try:
        if git.is_file():  # a worktree: its repository is elsewhere
            git = git.parent / git.read_text("utf-8").partition("gitdir: ")[2].strip()
        common = git / "commondir"
        shared = git / common.read_text("utf-8").strip() if common.exists() else git
        head = (git / "HEAD").read_text("utf-8").strip()
        _, ref, name = head.partition("ref: ")
        if not ref:
            found = head
        elif (shared / name).exists():
            found = (shared / name).read_text("utf-8").strip()
        else:
            packed = (shared / "packed-refs").read_text("utf-8").splitlines()
            found = next((line.split(" ")[0] for line in packed if line.endswith(f" {name}")), "")
    except (OSError, UnicodeDecodeError):
        return ""
    return found if _HEX.fullmatch(found) else ""


def extras() -> tuple[list[str], list[str]]:
    """The extras whose packages are all there, and the others. Nothing is imported."""
    try:
        needs = metadata.requires("lmstream") or []
    except metadata.PackageNotFoundError:  # run from its sources
        return [], []
    wanted: dict[str, list[bool]] = {}
    for extra, package in _wanted(needs):
        wanted.setdefault(extra, []).append(_is_there(package))
    there = [extra for extra, found in wanted.items() if all(found)]
    return sorted(there), sorted(set(wanted) - set(there))


def _wanted(needs: list[str]) -> Iterator[tuple[str, str]]:
    for need in needs:
        found, elsewhere = _REQUIREMENT.match(need), _PLATFORM.search(need)
        if found and (elsewhere is None or elsewhere[1] == sys.platform):
            yield found[2], found[1]


def _is_there(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
