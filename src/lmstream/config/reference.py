"""Every setting there is, read from the structs and their docstrings: what it is, its unit, and what a change costs.

A docstring of a setting says what it is; then, each on a line of its own, `Unit:` where neither name nor first word has
it, `Costs:` with words of COSTS and an explanation, and `Limit:` with where a limit comes from.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import Struct

from lmstream.config.config import TABLES
from lmstream.config.convert import unknown
from lmstream.config.in_words import json_of, type_in_words
from lmstream.config.places import PREFIX
from lmstream.config.plugins import PARTS, USUAL, known, module_of
from lmstream.errors import ConfigError

COSTS: Final = {
    "nothing": "no row changes, none is lost or comes twice.",
    "rows": "a record that is read again gives other rows: other ids, contents or paths. `verify` needs the older "
    "settings too (`--config OLD.toml@TOPIC/PARTITION=FROM..TO`). The view `rows` keeps rows of other ids apart.",
    "duplicates": "rows may come twice. They have the same ids unless *rows* is named too, so the view `rows` of "
    "queries shows them once.",
    "loss": "records may be skipped, or rows kept nowhere. Read the explanation first.",
    "offsets": "which records are read, or from where on.",
    "letters": "which records or points become dead letters.",
    "delay": "rows land sooner or later, or work takes more or less time.",
    "memory": "the process needs more or less of it.",
    "money": "what AWS bills, or what queries cost.",
    "restarts": "the process may end and be started again, or has to be stopped in order.",
}
"""What a change can cost, beside the restart that every change takes: settings are read at a start."""
_UNITS: Final = {
    "Seconds": "s",
    "Bytes": "bytes",
    "Rows": "rows",
    "Offsets": "offsets",
    "Processes": "processes",
    "Requests": "requests",
    "US dollars a month": "US dollars a month",
}
"""Units that the first words of a docstring say."""
_MARK: Final = re.compile(r"^(Unit|Costs|Limit): ", re.MULTILINE)
_OWN: Final = "a name of lmstream's, or the name of a module of yours"
_TYPES: Final = {
    "source": f"""Where records come from: {_OWN}.
Costs: rows, duplicates: files have other row ids than topics. Between kafka and confluent: nothing, when all members of
the group change at once.""",
    "sink": f"""Where rows go: {_OWN}.
Costs: duplicates: what was not committed lands in the new place, once more if it was in the former one.""",
    "dead_letters": f"""Where dead letters are kept: {_OWN}. Without the table, runs of files use the folder
./dead-letters; other sources need it, because a container's own disk goes away with it.
Costs: nothing: letters in the former place stay there.""",
}
"""The setting `type` of each part, as a docstring has it."""


class Setting(Struct, frozen=True, kw_only=True):
    """One setting."""

    key: str
    """Its key path, as in sink.stream."""
    of: tuple[str, ...] = ()
    """Of a part: the types that have it."""
    type: str
    """What it takes, in words."""
    unit: str = ""
    default: Any = None
    required: bool = False
    """Whether there is no default."""
    what: str
    """What it is."""
    costs: tuple[str, ...] = ()
    """Words of COSTS."""
    change: str = ""
    """What a change costs, explained."""
    limit: str = ""
    """Where its limit comes from."""
    variable: str
    """The variable of the environment that sets it."""
    declared: str = ""
    """The struct that has it, for those that several tables share."""
    annotation: Any = str
    """Its type in the code."""

    def told(self) -> dict[str, Any]:
        """All that is for people and their tools."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if name not in _INSIDE}


_INSIDE: Final = ("declared", "annotation")


class Section(Struct, frozen=True, kw_only=True):
    """The settings of a table, or of one kind of part."""

    table: str
    of: tuple[str, ...] = ()
    what: str
    settings: tuple[Setting, ...]


def sections(absent: list[str] | None = None) -> list[Section]:
    """All settings of lmstream, in the order of the tables. Parts that need an extra which is not installed are left
    out, and why is added to `absent`."""
    found: list[Section] = []
    for table, struct in TABLES.items():
        found += _sections(table, struct, ())
    for part in PARTS:
        kinds: dict[type[Struct], list[str]] = {}
        for name in known(part):
            try:
                kinds.setdefault(module_of(part, name, ()).Settings, []).append(name)
            except ConfigError as e:
                if absent is not None:
                    absent.append(e.detail)
        kind = _type_of(part)
        found.append(Section(table=part, what=kind.what, settings=(kind,)))
        for struct, names in kinds.items():
            found += _sections(part, struct, tuple(names))
    return found


def settings(found: list[Section]) -> list[Setting]:
    """All of them in one list."""
    return [each for section in found for each in section.settings]


def below(found: list[Section], key: str) -> list[Setting]:
    """The setting of this key path, in each type of part that has it, or those of a table. ConfigError if there is
    none."""
    every = settings(found)
    if not (chosen := [each for each in every if f"{each.key}.".startswith(f"{key}.")]):
        keys = list(dict.fromkeys(section.table for section in found))
        keys += [each.key for each in every if "." in key]
        every_key = "`lmstream config reference` lists all"
        raise unknown((key,), keys, (), [each.key for each in every], every_key)
    return chosen


def _type_of(part: str) -> Setting:
    said = _said(_TYPES[part])
    return Setting(
        key=f"{part}.type",
        type=f"{' | '.join(json_of(name) for name in known(part))} | name of your own module",
        default=USUAL.get(part),
        required=part not in USUAL,
        what=said["what"],
        costs=said["costs"],
        change=said["change"],
        variable=f"{PREFIX}{part.upper()}__TYPE",
    )


def _sections(table: str, struct: type[Struct], of: tuple[str, ...]) -> Iterator[Section]:
    """The section of a struct, and those of the structs in it."""
    inner: list[tuple[str, type[Struct]]] = []
    own: list[Setting] = []
    docs = texts(struct)
    for field in msgspec.structs.fields(struct):
        key = f"{table}.{field.encode_name}"
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            inner.append((key, field.type))
        else:
            own.append(_setting(key, of, field, *docs.get(field.name, ("", ""))))
    yield Section(table=table, of=of, what=" ".join((struct.__doc__ or "").split()), settings=tuple(own))
    for key, below in inner:
        yield from _sections(key, below, of)


def _setting(key: str, of: tuple[str, ...], field: Any, text: str, declared: str) -> Setting:
    default = field.default if field.default is not msgspec.NODEFAULT else None
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    said = _said(text)
    named = key.rpartition(".")[2]
    return Setting(
        key=key,
        of=of,
        type=type_in_words(msgspec.inspect.type_info(field.type)),
        unit="ms" if named.endswith("_ms") else said["unit"],
        default=msgspec.json.decode(msgspec.json.encode(default)),
        required=field.required,
        what=said["what"],
        costs=said["costs"],
        change=said["change"],
        limit=said["limit"],
        variable=f"{PREFIX}{key.upper().replace('.', '__')}",
        declared=f"{declared}.{field.name}",
        annotation=field.type,
    )


def _said(text: str) -> dict[str, Any]:
    """A docstring taken apart."""
    what, *marked = _MARK.split(text)
    found = dict(zip(marked[::2], (" ".join(each.split()) for each in marked[1::2]), strict=True))
    words, _, change = found.get("Costs", "").removesuffix(".").partition(": ")
    what = " ".join(what.split())
    unit = next((unit for begin, unit in _UNITS.items() if re.match(rf"{begin}\b", what)), "")
    return {
        "what": what,
        "unit": found["Unit"].removesuffix(".") if "Unit" in found else unit,
        "costs": tuple(filter(None, words.split(", "))),
        "change": change,
        "limit": found.get("Limit", "").removesuffix("."),
    }


@cache
def texts(struct: type[Struct]) -> dict[str, tuple[str, str]]:
    """The docstrings of a struct's fields, inherited ones too, each with the name of the struct that has it."""
    found: dict[str, tuple[str, str]] = {}
    for each in reversed(struct.__mro__):
        if issubclass(each, Struct) and each is not Struct:
            declared = f"{each.__module__}.{each.__qualname__}"
            found |= {name: (text, declared) for name, text in _own_texts(each).items()}
    return found


def _own_texts(struct: type[Struct]) -> dict[str, str]:
    """The docstrings that stand below the fields of a class; none where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[struct.__module__]))
    except (OSError, TypeError, SyntaxError, KeyError):
        return {}
    body = next((n.body for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == struct.__name__), [])
    found = {}
    for node, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            found[node.target.id] = inspect.cleandoc(text) if isinstance(text, str) else ""
    return found
