"""The verbs by name, with what verbs.txt says of each. Verbs are imported when they are called."""

from functools import cache
from pathlib import Path
from typing import NamedTuple


class Verb(NamedTuple):
    """What verbs.txt says of a verb."""

    text: str
    examples: str
    group: str
    """What it is used for; that of a verb below another is the other's."""


@cache
def verbs() -> dict[str, Verb]:
    """The verbs by name; `dlq ls` is one of `dlq`. --help stays quick, and needs no extra of another verb."""
    found: dict[str, Verb] = {}
    group = ""
    for block in Path(__file__).with_name("verbs.txt").read_text("utf-8").split("\n\n")[1:]:
        head, _, examples = block.partition("\n")
        if head.startswith("# "):
            group = head.removeprefix("# ").rstrip()
            continue
        name, _, text = head.partition(": ")
        found[name] = Verb(text, examples.rstrip(), group)
    return found
