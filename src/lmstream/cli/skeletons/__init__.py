"""Packages of a part each, as `lmstream plugin new` writes them: examples/plugins is made of the same texts."""

import keyword
import re
import sys
from importlib import resources
from typing import Final, Literal, get_args

from lmstream.codecs import FORMATS
from lmstream.config.plugins import PARTS, known
from lmstream.errors import ConfigError

Kind = Literal["sink", "source", "codec", "transform", "place"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_FILES: Final = {
    "{kind}/part.py.txt": "{name}.py",
    "{kind}/test.py.txt": "test_{name}.py",
    "{kind}/lmstream.toml": "lmstream.toml",
    "pyproject.toml.txt": "pyproject.toml",
}


def files(kind: Kind, name: str) -> dict[str, str]:
    """The files of a package by their names. Raises ConfigError for a name that cannot be a module."""
    _check(name)
    texts = resources.files(__name__)
    words = {"NAME": name, "DISTRIBUTION": name.replace("_", "-"), "KIND": _WORDS.get(kind, kind)}
    made = {}
    for template, target in _FILES.items():
        text = texts.joinpath(template.format(kind=kind)).read_text("utf-8")
        made[target.format(name=name)] = re.sub(r"\b(NAME|DISTRIBUTION|KIND)\b", lambda word: words[word[0]], text)
    return made


_WORDS: Final = {"place": "place of dead letters"}


def _check(name: str) -> None:
    said = ""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        said = "a module's name has lower-case letters, digits and underscores, as acme_table"
    elif name in sys.stdlib_module_names or name == "lmstream":
        said = "Python or lmstream has a module of this name"
    elif name in FORMATS or any(name in known(part) for part in PARTS):
        said = "lmstream has a part of this name, which would be found first"
    if said:
        raise ConfigError("config.invalid", f"{name}: {said}", "choose another name, as acme_table")
