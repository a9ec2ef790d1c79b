"""Tables of settings into structs: every refusal names the key, what was seen, what is expected, what comes near."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, Final, get_args, get_origin

import msgspec
from msgspec import Struct

from lmstream.config.places import PREFIX, Layer, layer_of, origin_of, spot_of
from lmstream.errors import ConfigError, LmstreamError, refuse
from lmstream.settings import seconds_of

_SECRET: Final = re.compile(
    r"password|secret(?!s_)|token|credential|sasl(?!_mechanism$|_username$)|private|(^|[._])key[._]pem|keystore|^headers[.]",
    re.IGNORECASE,
)
_POINTER: Final = re.compile(r"^(env|file|awssm):")  # says where the secret is, and is none
_WITHIN: Final = re.compile(r"PRIVATE KEY-----|://[^/@\s]+@|://[^\s?#]*[?#]")
"""A key, or a URL that has more than a place in it: a user, a password, a signature."""
_CLIENT: Final = "source.client."
_CLIENT_SHOWN: Final = re.compile(
    r"(?:socket|broker|fetch|queued|topic_metadata|metadata|reconnect|retry|statistics|log|api_version|connections"
    r"|receive|message|partition_assignment|resolve|max|allow_auto)[a-z_]*|client_id|client_dns_lookup|debug|check_crcs"
)
"""Settings of the Kafka clients that hold no secrets, by how their names begin (dots as underscores)."""
_SIZES: Final = {"b": 1, "kb": 1000, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE: Final = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(_SIZES)})", re.IGNORECASE)
HIDDEN: Final = "..."
"""Stands for a secret."""


def masked(path: str, value: Any, *, ours: bool = True) -> Any:
    """The value where it may be shown, else HIDDEN, whatever its type.

    Shown are settings of lmstream's own that are no secret or say where one is, and those of the Kafka clients that are
    known to hold none. What somebody else's module calls its secrets is not known: of it (not `ours`) only switches.
    """
    if value is None or isinstance(value, bool) or (isinstance(value, str | dict | list | tuple) and not value):
        return value
    if isinstance(value, dict):
        return {name: masked(f"{path}.{name}", inner, ours=ours) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(path, inner, ours=ours) for inner in value]
    text = str(value)
    secret = _SECRET.search(path.partition(".")[2]) and not _POINTER.match(text)
    of_client = path.removeprefix(_CLIENT).replace(".", "_").lower() if path.startswith(_CLIENT) else None
    known = ours if of_client is None else bool(_CLIENT_SHOWN.fullmatch(of_client))
    return value if known and not secret and not _WITHIN.search(text) else HIDDEN


class Text(str):
    """A value of the environment: text, whatever it has to become."""

    __slots__ = ()


_AT: Final = re.compile(r" - at `(?:key in )?\$(.*)`$")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(.*?)\]")
_FIELD: Final = re.compile(r"^Object (contains unknown|missing required) field `(.*?)`")
_ABOUT: Final = re.compile(r"(?:deployment, )?(\w+(?:\.\w+)*)")
_EXPECTED: Final = re.compile(r"^Expected (.*?)(?:, got .*)?$")


def convert(at: tuple[str, ...], raw: Any, struct: type[Struct], layers: Sequence[Layer]) -> Any:
    """Make `struct` of the table `raw` found at key path `at`, or raise ConfigError that says what to change: all that
    is wrong at once."""
    try:
        return msgspec.convert(_typed(raw, msgspec.inspect.type_info(struct)), struct)
    except (msgspec.ValidationError, ConfigError):
        refuse(_mistakes(at, raw, struct, struct, layers))
        raise


def _mistakes(
    at: tuple[str, ...], raw: Any, kind: Any, owner: type[Struct], layers: Sequence[Layer]
) -> list[LmstreamError]:
    """All that is wrong with `raw` as `kind`, a type of a setting of `owner` or itself a struct of settings."""
    found: list[LmstreamError] = []
    good = raw
    if isinstance(raw, list) and (item := _struct_in(kind)) is not None:
        for number, each in enumerate(raw):
            found += _mistakes((*at, str(number)), each, item, owner, layers)
        if found:
            return found
    if isinstance(kind, type) and issubclass(kind, Struct) and isinstance(raw, Mapping):
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        strict = kind.__struct_config__.forbid_unknown_fields
        fix = f"rename it, or remove it{_see(owner, at, 'lists what there is')}"
        wrong = {key: [unknown((*at, key), [*fields], layers, fix=fix)] for key in raw if strict and key not in fields}
        wrong |= {
            key: mistakes
            for key, value in raw.items()
            if key in fields and (mistakes := _mistakes((*at, key), value, fields[key].type, owner, layers))
        }
        missing = [name for name, field in fields.items() if field.required and name not in raw]
        found += [mistake for key in raw for mistake in wrong.get(key, ())]
        meant = {each for key in raw if key not in fields for each in difflib.get_close_matches(key, fields, 1)}
        found += [_missing((*at, name), layers) for name in missing if name not in meant]  # one mistake, told once
        if missing or any(fields[key].required for key in wrong if key in fields):
            return found
        good = {key: value for key, value in raw.items() if key not in wrong}
    try:
        msgspec.convert(_typed(good, msgspec.inspect.type_info(kind)), kind)
    except msgspec.ValidationError as e:
        found.append(_explained(str(e), at, good, kind, owner, layers))
    except ConfigError as e:
        # Of a table that is not whole only what is about a key that is good: the rest may follow from what is wrong.
        about = tuple(".".join((*at, key)) for key in good) if found else ("",)
        found += [_placed(each, layers) for each in e.errors if each.detail.startswith(about)]
    return found


def _struct_in(kind: Any) -> type[Struct] | None:
    """The struct that a list of structs is of."""
    item = next(iter(get_args(kind)), None) if get_origin(kind) in (tuple, list) else None
    return item if isinstance(item, type) and issubclass(item, Struct) else None


def _missing(path: tuple[str, ...], layers: Sequence[Layer]) -> ConfigError:
    table = path[:-1]
    spot = spot_of(table, layers)
    where = "" if spot is None else f"; add it to [{'.'.join(table)}]{origin_of(table, layers)}"
    return ConfigError("config.invalid", f"{'.'.join(path)} is not set and has no default{where}", "set it", spot)


def _placed(error: LmstreamError, layers: Sequence[Layer]) -> LmstreamError:
    """The error of a struct that looks at itself, with the spot of the setting that it begins with."""
    if error.spot is None and (found := _ABOUT.match(error.detail)):
        path = found[1].split(".")
        error.spot = spot_of(path, layers)
        if error.spot is not None and any(name.isdigit() for name in path):  # a number is no place for people
            error.detail += f" (from {error.spot.file}, line {error.spot.line}, column {error.spot.column})"
    return error


def _explained(
    message: str, at: tuple[str, ...], raw: Any, kind: Any, owner: type[Struct], layers: Sequence[Layer]
) -> ConfigError:
    """The error of msgspec in words: which key, what is expected, what was seen and where."""
    found = _AT.search(message)
    text = message[: found.start()] if found else message
    steps = tuple(a or b.strip("'\"") for a, b in _STEP.findall(found[1])) if found else ()
    path = (*at, *steps)
    if field := _FIELD.match(text):  # of a struct in a list or mapping; others were told by name before
        path = (*path, field[2])
        if field[1].startswith("missing"):
            return _missing(path, layers)
        return unknown(path, [f.encode_name for f in getattr(_type_at(kind, steps), "fields", ())], layers)
    expected = _EXPECTED.match(text)
    wanted = f"expected {expected[1]}" if expected else text[:1].lower() + text[1:]
    seen = raw
    for step in steps:
        seen = seen.get(step) if isinstance(seen, Mapping) else seen
    info = _type_at(kind, steps)
    if isinstance(info, msgspec.inspect.LiteralType):
        wanted = f"expected one of {', '.join(map(str, info.values))}"
    where, given = ".".join(path), origin_of(path, layers)
    saw = seen_as(masked(where, seen, ours=is_ours(owner)))
    what = f"{where}: {wanted.replace('`', '')}, saw {saw}{given}{_in_units(path[-1] if path else '', seen)}"
    fix = f"correct it{_see(owner, at, 'says what it takes')}"
    return ConfigError("config.invalid", what, fix, spot_of(path, layers, value=True))


def is_ours(of: Any) -> bool:
    """Whether a class of settings is lmstream's own."""
    return str(getattr(of, "__module__", "")).partition(".")[0] == "lmstream"


def _in_units(name: str, seen: Any) -> str:
    """What somebody who wrote 25s or 64MiB has to write: settings are plain numbers of s, ms or bytes."""
    if not isinstance(seen, str):
        return ""
    if (size := seconds_of(seen)) is not None:
        size *= 1000 if name.endswith("_ms") else 1
    elif found := _SIZE.fullmatch(seen):
        size = _SIZES[found[2].lower()] * float(found[1])
    else:
        return ""
    return f"; did you mean {size:g}?" if size % 1 else f"; did you mean {size:.0f}?"


def _see(owner: type[Struct], at: Sequence[str], what: str) -> str:
    """Where to read about a setting, if the reference has it: not of a deployment's, or of somebody else's part."""
    known = is_ours(owner) and not owner.__module__.startswith("lmstream.deployment")
    named = ".".join(takewhile(lambda name: not name.isdigit(), at))
    return f"; `lmstream config reference {named}` {what}" if known and at else ""


_SHOWN: Final = 24
"""Names in a message: as many as the tables of a configuration or a deployment are."""


def unknown(
    path: tuple[str, ...],
    known: Sequence[str],
    layers: Sequence[Layer],
    elsewhere: Sequence[str] = (),
    fix: str = "rename it, or remove it",
) -> ConfigError:
    """Answer the error for an unknown key, with those of `elsewhere` (key paths of other tables) that end the same, or
    the nearest of the known ones."""
    close = [each for each in elsewhere if path[-1] in (each.rpartition(".")[2], each.replace(".", "_"))]
    close = close or [".".join((*path[:-1], name)) for name in difflib.get_close_matches(path[-1], known, 1)]
    layer = layer_of(path, layers)
    if layer is not None and tuple(path) in layer.variables:
        close = [f"{PREFIX}{each.upper().replace('.', '__')}" for each in close]
    some = f"{', '.join(known[:_SHOWN])}{', ...' if known[_SHOWN:] else ''}" or "none"
    hint = f"did you mean {' or '.join(close)}?" if close else f"known here: {some}"
    what = f"{'.'.join(path)} is not a setting{origin_of(path, layers)}; {hint}"
    return ConfigError("config.invalid", what, fix, spot_of(path, layers))


def _type_at(kind: Any, steps: Sequence[str]) -> Any:
    """Answer the type of the setting at the end of these steps; None when there is none."""
    info: Any = msgspec.inspect.type_info(kind)
    for step in steps:
        info = next((f.type for f in getattr(info, "fields", ()) if f.encode_name == step), None)
    return info


def _typed(raw: Any, info: Any) -> Any:
    """Give texts of the environment the type of their setting; what cannot be one stays text, and is refused later."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _typed(raw, info.type)
    if isinstance(info, msgspec.inspect.StructType) and isinstance(raw, Mapping):
        types = {f.encode_name: f.type for f in info.fields}
        return {k: _typed(v, types.get(k)) for k, v in raw.items()}
    if isinstance(info, msgspec.inspect.DictType) and isinstance(raw, Mapping):
        return {k: _typed(v, info.value_type) for k, v in raw.items()}
    return _from_text(raw, info) if isinstance(raw, Text) else raw


def _from_text(raw: str, info: Any) -> Any:
    kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    if any(isinstance(kind, msgspec.inspect.StrType | msgspec.inspect.LiteralType) for kind in kinds):
        return str(raw)
    lists = msgspec.inspect.ListType | msgspec.inspect.VarTupleType
    if any(isinstance(kind, lists) for kind in kinds) and not raw.startswith("["):
        return [part.strip() for part in raw.split(",") if part.strip()]
    try:
        return json.loads(
            raw.lower() if raw.lower() in ("true", "false") else raw
        )  # True is Python's, and many people's
    except ValueError:
        return str(raw)


def seen_as(value: Any) -> str:
    """Answer a value as a message shows it."""
    return json.dumps(value, default=str)[:200]
