"""What is wrong with the arguments of a verb: all of it at once, in words of the command line."""

import difflib
from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

import cyclopts
from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

from lmstream.cli.verbs import verbs
from lmstream.errors import ConfigError

_MOST: Final = 20  # mistakes of one command line that are told
_LIKE: Final = 0.7  # of 1: --worker is like --workers (0.94), --bogus is not like --org (0.67)
_NUMBERS: Final[dict[object, str]] = {int: "a whole number", float: "a number"}
_ANYTHING: Final = "x"


def mistakes(app: cyclopts.App, arguments: list[str], error: cyclopts.CycloptsError, verb: str) -> list[ConfigError]:
    """All that is wrong with the arguments, of which `error` is what the parser has found first. It stops there: so
    what it named is taken out, and the rest is parsed again."""
    found: list[ConfigError] = []
    named: set[str] = set()
    rest = list(arguments)
    after: set[str] = set()  # what stands behind unknown flags may be their values
    for _ in range(_MOST):
        name = _name(error)
        if name not in named:
            fix = _help(error, verb)
            found += [ConfigError("usage.arguments", text, fix) for text in _in_words(error, verb, after)]
        named.update([name] if name else [])
        if (left := _without(rest, error, after)) is None:
            break
        rest = left
        try:
            app.parse_args(rest, exit_on_error=False, print_error=False)
            break
        except cyclopts.CycloptsError as e:
            error = e
    return found


def _name(error: cyclopts.CycloptsError) -> str:
    """Of the flag or argument that an error is about; empty when it is about none of those that there are."""
    return "" if error.argument is None else error.argument.name


def _help(error: cyclopts.CycloptsError, verb: str) -> str:
    if isinstance(error, UnknownCommandError) and not verb:
        return "`lmstream --help` lists all verbs"
    return f"see lmstream {f'{verb} ' if verb else ''}--help"


def _in_words(error: cyclopts.CycloptsError, verb: str, after: set[str]) -> Iterator[str]:
    """What is wrong, a sentence for each mistake."""
    if isinstance(error, UnknownOptionError):
        flag = error.token.keyword or error.token.value
        near = _near(flag, [name for each in error.argument_collection if each.parse for name in each.names])
        yield f"unknown flag {flag}{near}"
    elif isinstance(error, UnknownCommandError):
        yield _verb_in_words(str((error.unused_tokens or [""])[0]), verb)
    elif isinstance(error, UnusedCliTokensError):
        some = [each for each in error.unused_tokens or () if each not in after]
        yield from [f"unexpected argument{'s' if some[1:] else ''}: {' '.join(some)}"] if some else []
    elif isinstance(error, MissingArgumentError):
        yield f"{error.keyword} needs a value" if error.keyword else f"{_shown(error)} is missing"
    elif isinstance(error, ValidationError) and error.argument is not None:
        value = error.argument.tokens[0].value if error.argument.tokens else error.value
        yield f"{_shown(error)} {value}: {error.exception_message[:1].lower()}{error.exception_message[1:]}"
    elif isinstance(error, CoercionError) and error.token is not None:
        yield f"{_shown(error)} {error.token.value}: {_expected(error)}"
    else:
        yield " ".join(str(error).split())


def _verb_in_words(token: str, verb: str) -> str:
    if token.startswith("-"):
        return f"unknown flag {token}: flags come behind a verb, as in lmstream run {token}"
    below = sorted(name.removeprefix(f"{verb} ") for name in verbs() if verb and name.startswith(f"{verb} "))
    if below:
        return f"lmstream {verb} has no verb {token}{_near(token, below)}; it has {', '.join(below)}"
    return f"there is no verb {token}{_near(token, [name for name in verbs() if ' ' not in name])}"


def _near(text: str, names: list[str]) -> str:
    found = difflib.get_close_matches(text, names, n=1, cutoff=_LIKE)
    return f"; did you mean {found[0]}?" if found else ""


def _shown(error: Any) -> str:
    """The flag as it was typed, or the name of an argument."""
    tokens = error.argument.tokens if error.argument is not None else ()
    typed = next((each.keyword for each in tokens if each.keyword), None)
    token = getattr(error, "token", None)
    typed = typed or (token.keyword if token is not None else None)
    name: str = error.argument.name if error.argument is not None else ""
    return typed or (name if name.startswith("-") else name.upper())


def _expected(error: CoercionError) -> str:
    if error.msg is not None:
        return str(error.msg)
    if get_origin(error.target_type) is Literal:
        choices = [str(each) for each in get_args(error.target_type)]
        near = _near(error.token.value if error.token is not None else "", choices)
        return f"expected {', '.join(choices[:-1])} or {choices[-1]}{near}" if choices[1:] else f"expected {choices[0]}"
    return f"expected {_NUMBERS.get(error.target_type, getattr(error.target_type, '__name__', 'another value'))}"


def _without(arguments: list[str], error: cyclopts.CycloptsError, after: set[str]) -> list[str] | None:
    """The arguments without this mistake; None when it cannot be taken out."""
    left: list[str] | None = None
    if isinstance(error, UnknownOptionError):
        at = _place(arguments, error.token.keyword or error.token.value)
        if at is not None:
            after.update(each for each in arguments[at + 1 : at + 2] if not each.startswith("-"))
            left = _cut(arguments, at, 1)
    elif isinstance(error, UnusedCliTokensError):
        left = list(arguments)
        for each in error.unused_tokens or ():
            left.remove(each)
    elif isinstance(error, MissingArgumentError):
        left = _completed(arguments, error)
    elif isinstance(error, CoercionError | ValidationError) and error.argument is not None and error.argument.tokens:
        token = getattr(error, "token", None) or error.argument.tokens[0]
        at = _place(arguments, token.keyword or str(token.value))
        if at is not None:
            left = _cut(arguments, at, 1 if token.keyword is None or "=" in arguments[at] else 2)
    return left


def _completed(arguments: list[str], error: MissingArgumentError) -> list[str] | None:
    """The arguments with something for what is missing, which nobody will see."""
    choices = get_args(error.argument.hint) if error.argument is not None else ()
    value = str(choices[0]) if choices and isinstance(choices[0], str) else _ANYTHING
    if not error.keyword:
        name = _name(error)
        return [*arguments, *([name] if name.startswith("-") else []), value]
    at = _place(arguments, error.keyword)
    return None if at is None else [*arguments[: at + 1], value, *arguments[at + 1 :]]


def _cut(arguments: list[str], at: int, count: int) -> list[str]:
    return arguments[:at] + arguments[at + count :]


def _place(arguments: list[str], text: str) -> int | None:
    flag = text.partition("=")[0] if text.startswith("-") else text
    return next((n for n, each in enumerate(arguments) if flag in {each, each.partition("=")[0]}), None)
