"""Templates of a synthesized app, as they lie in its folder."""

import json
from pathlib import Path
from typing import Any


def templates(folder: Path) -> dict[str, dict[str, Any]]:
    """By stack name, of the stacks that the manifest names: files of an earlier synthesis may lie beside them."""
    artifacts = json.loads((folder / "manifest.json").read_bytes())["artifacts"]
    return {
        name: json.loads((folder / each["properties"]["templateFile"]).read_bytes())
        for name, each in artifacts.items()
        if each["type"] == "aws:cloudformation:stack"
    }
