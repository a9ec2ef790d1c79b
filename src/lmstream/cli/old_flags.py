"""Names that flags had one version ago: they are taken for the names of today, with a line that says so."""

from collections.abc import Callable, Mapping
from typing import Final

_START: Final = {"--from": "--start-from"}
_S3: Final = {"--endpoint-url": "--s3-endpoint-url", "--region": "--s3-region"}
OLD: Final[Mapping[str, Mapping[str, str]]] = {
    "run": _START,
    "validate": _START,
    "config show": _START,
    "verify": _S3,
    "query": _S3,
    "inspect": {"--format": "--view"},
    "publish": {"--format": "--bundle-format", "--start-ms": "--start"},
}
"""By verb: the old name, and that of today."""


def renamed(verb: str, arguments: list[str], say: Callable[[str], None]) -> list[str]:
    """The arguments of a verb with the names of today. Behind `--` nothing is a flag."""
    old = OLD.get(verb)
    if old is None:
        return arguments
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found, said = [], set()
    for each in arguments[:end]:
        name, equals, value = each.partition("=")
        if (new := old.get(name)) is not None and name not in said:
            said.add(name)
            say(f"lmstream {verb}: {name} is now {new}; the old name goes with the next version")
        found.append(each if new is None else f"{new}{equals}{value}")
    return [*found, *arguments[end:]]
