"""Write the commit into what is built, for `lmstream version`. Without git the variable LMSTREAM_COMMIT names it."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NAME = "commit.txt"  # lmstream.cli.installation reads it


class CommitHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds a file of one line to wheel and sdist, when the commit is known."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is "editable" for a development install, which reads its checkout instead."""
        root = Path(self.root)
        found = os.environ.get("LMSTREAM_COMMIT") or _from_sdist(root) or _from_git(root)
        if found and version != "editable":
            self._folder = tempfile.TemporaryDirectory()
            made = Path(self._folder.name, _NAME)
            made.write_text(f"{found}\n", encoding="ascii")
            build_data["force_include"][str(made)] = f"lmstream/{_NAME}" if self.target_name == "wheel" else _NAME


def _from_sdist(root: Path) -> str:
    try:
        return (root / _NAME).read_text("ascii").strip()
    except OSError:
        return ""


def _from_git(root: Path) -> str:
    if not (root / ".git").exists():  # somebody else's repository around it says nothing
        return ""
    try:
        return subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
