"""How the reader calls this very installation, for commands that are printed to be pasted."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def command() -> str:
    """By name where that is this installation, else by its script or its interpreter."""
    here = Path(sys.executable).parent
    found = shutil.which("lmstream")
    if found is not None and Path(found).parent == here:
        return "lmstream"
    script = here / "lmstream"
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m lmstream"
    return shlex.quote(os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script))
