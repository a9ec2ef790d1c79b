"""Values for completion: codes of the runbook, and names that verbs of this user saw. Imports next to nothing."""

import json
import os
import re
import sys
from pathlib import Path

MOST = 500
"""Names of one kind that are kept; the oldest go first."""
_NAME = re.compile(r"[A-Za-z0-9._@/+:=-]{1,256}")
"""What is offered to a shell, which expands the words of bash's `compgen -W`: names of metrics are anybody's."""
KINDS = ("topics", "metrics", "reasons", "codes")


def values(kind: str) -> list[str]:
    """What may stand in a place of this kind; nothing for one that is unknown."""
    if kind == "codes":
        return [code for code, _ in _reasons().values()]
    if kind == "reasons":
        return list(_reasons())
    return [each for each in _cached().get(kind, []) if _NAME.fullmatch(each)]


def remember(kind: str, names: list[str]) -> None:
    """Keep names for the next completion, where a person works. Whatever keeps it from that changes nothing."""
    try:
        if not sys.stderr.isatty():
            return  # a service or a script: nobody completes what it read
        cached = _cached()
        known = cached.get(kind, [])
        fresh = [name for name in dict.fromkeys(names) if _NAME.fullmatch(name)]
        if set(fresh) <= set(known):
            return
        cached[kind] = [*fresh, *(name for name in known if name not in fresh)][:MOST]
        path = place()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh_path = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(
            os.open(fresh_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as file:
            json.dump(cached, file)
        fresh_path.replace(path)
    except (OSError, ValueError, AttributeError):
        return


def place() -> Path:
    """The file of what was seen: $XDG_CACHE_HOME/lmstream/completion.json, or below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base, "lmstream", "completion.json")


def _cached() -> dict[str, list[str]]:
    try:
        found = json.loads(place().read_text("utf-8"))
    except (OSError, ValueError, RuntimeError):  # not there yet, broken, or no home
        return {}
    if not isinstance(found, dict):
        return {}
    lists = {kind: names for kind, names in found.items() if isinstance(names, list)}
    return {kind: [each for each in names if isinstance(each, str)] for kind, names in lists.items()}


def _reasons() -> dict[str, tuple[str, str]]:
    text = (Path(__file__).parents[1] / "errors" / "reasons.json").read_text("utf-8")
    return {name: (code, meaning) for name, (code, meaning, *_) in json.loads(text).items()}
