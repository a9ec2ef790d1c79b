"""`lmstream completion`: a static script for a shell, with the verbs and flags of the parser."""

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin

from lmstream.cli.root_help import GLOBAL
from lmstream.cli.verbs import verbs

Shell = Literal["bash", "zsh", "fish"]

_VALUES: Final = {"--topic": "topics", "--reason": "reasons", "--metric": "metrics"}
"""Flags whose values are names that were seen."""
_TARGETS: Final = {"explain": "codes", "skip": "topics", "inspect": "topics"}
"""The same of what has no flag."""
_FOLDERS: Final = {"--landed", "--dead-letters", "--errors", "--claims", "--files", "--dir", "LETTERS", "TARGET"}
"""Places that are text, because s3:// is one too."""


class Flag(NamedTuple):
    """A flag, or what stands without one."""

    name: str
    """As it is typed; in capitals what has no flag."""
    about: str
    takes: bool = False
    """Whether a value follows."""
    choices: tuple[str, ...] = ()
    values: str = ""
    """Kind of `values`; empty for none."""
    path: bool = False


class Verb(NamedTuple):
    """A verb, and all that may follow."""

    name: str
    about: str
    below: tuple[str, ...]
    flags: tuple[Flag, ...]
    targets: tuple[Flag, ...]


def completion(shell: Shell, /) -> int:
    """Print the completion script of a shell: verbs, flags, and values such as topics that you used lately, and codes.

    Parameters
    ----------
    shell
        bash: put it into ~/.local/share/bash-completion/completions/lmstream. zsh: into a file _lmstream in a folder of
        $fpath. fish: into ~/.config/fish/completions/lmstream.fish.
    """
    from lmstream.cli import completion_scripts

    print(getattr(completion_scripts, shell)(tree()), end="")
    return 0


def tree() -> list[Verb]:
    """Every verb with its flags, as the parser has them."""
    from lmstream.cli.parser import parser

    app, found = parser(), []
    for name, verb in verbs().items():
        node: Any = app
        for part in name.split(" "):
            node = node[part]
        below = tuple(other.removeprefix(f"{name} ") for other in verbs() if other.startswith(f"{name} "))
        flags = [] if below else list(_flags(name, node.assemble_argument_collection(parse_docstring=True)))
        named = [each for each in flags if each.name.startswith("-")]
        every = [Flag(flag, about) for flag, about in GLOBAL.items() if flag != "--version"]
        targets = tuple(each for each in flags if not each.name.startswith("-"))
        found.append(Verb(name, verb.text, below, (*named, *every), targets))
    return found


def _flags(verb: str, arguments: Any) -> Iterator[Flag]:
    for each in arguments:
        if not each.show:
            continue
        name = each.names[0]
        about = " ".join(str(each.parameter.help or "").split()).partition(". ")[0].rstrip(".")
        values = _VALUES.get(name, "") if name.startswith("-") else _TARGETS.get(verb, "")
        path = "Path" in str(each.hint) or name in _FOLDERS
        yield Flag(name, about, each.hint is not bool, tuple(_choices(each.hint)), values, path)


def _choices(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
        return
    for inner in get_args(hint):
        yield from _choices(inner)
