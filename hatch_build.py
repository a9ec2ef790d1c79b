"""Write the commit into what is built, for `lmstream version`, and the native part into a wheel where it was built.

The README of the metadata has no link that leads nowhere: links into the repository are whole addresses where
LMSTREAM_URL names it, as a release does, and plain text elsewhere.

Without git the variable LMSTREAM_COMMIT names the commit. LMSTREAM_NATIVE names a native part for another platform, and
LMSTREAM_WHEEL_PLATFORM that platform. A wheel with the native part is for one platform, and for
every CPython from 3.11 on; without it, for all of them.
"""

import os
import re
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

_NATIVE = "src/lmstream/_native.abi3.so"  # native/build.py makes it
_NAME = "commit.txt"  # lmstream.cli.installation reads it


_LINK = re.compile(r"(!?)\[([^\[\]]*)\]\((?!https?:)([^)\s]+)\)")


class Addresses(MetadataHookInterface):
    """Sets the README and, where LMSTREAM_URL names the repository, the project's addresses."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put them into the metadata."""
        url = os.environ.get("LMSTREAM_URL", "").rstrip("/")
        at = f"v{metadata['version']}"
        text = Path(self.root, "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": readme(text, url, at)}
        if url:
            metadata["urls"] = {
                "Source": url,
                "Documentation": f"{url}/tree/{at}/docs",
                "Changelog": f"{url}/blob/{at}/CHANGELOG.md",
                "Issues": f"{url}/issues",
            }


def readme(text: str, url: str, at: str) -> str:
    """The README with links that work outside the repository: into it at the tag `at`, or, without `url`, none."""

    def link(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        if target.startswith("#"):  # of the page itself
            return found[0]
        if not url:
            return "" if picture else words
        return f"{picture}[{words}]({url}/{'raw' if picture else 'blob'}/{at}/{target})"

    return _LINK.sub(link, text)


class CommitHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds a file of one line to wheel and sdist, when the commit is known, and the native part to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is "editable" for a development install, which reads its checkout instead."""
        root = Path(self.root)
        found = os.environ.get("LMSTREAM_COMMIT") or _from_sdist(root) or _from_git(root)
        if found and version != "editable":
            self._folder = tempfile.TemporaryDirectory()
            made = Path(self._folder.name, _NAME)
            made.write_text(f"{found}\n", encoding="ascii")
            build_data["force_include"][str(made)] = f"lmstream/{_NAME}" if self.target_name == "wheel" else _NAME
        native = root / (os.environ.get("LMSTREAM_NATIVE") or _NATIVE)
        if self.target_name == "wheel" and version != "editable" and native.exists():
            build_data["force_include"][str(native)] = "lmstream/_native.abi3.so"
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{os.environ.get('LMSTREAM_WHEEL_PLATFORM') or _platform()}"


def _platform() -> str:
    """The platform tag of this machine, by its own libc: a build that is to run elsewhere names its platform."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


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
