"""The few errors of lmstream, each named by who must act."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lmstream.errors.reason import Reason

REASONS: Final[dict[str, Reason]] = {
    name: Reason(*fields)
    for name, fields in json.loads(Path(__file__).with_name("reasons.json").read_text("utf-8")).items()
}
"""All reasons by name, a line of reasons.json for each: code, meaning, fix. LMS-10xx are about a whole record, LMS-11xx
about one data point, LMS-12xx about a point skipped on purpose, the others about a run. Names are for machines
(metrics, dead letters, tests), codes for people (runbooks, searches).
What to look at: lmstream/observability/runbook.toml."""

OWN: Final = REASONS["decode.own"]
"""Stands for the reasons of codecs that are not lmstream's."""

_VARIOUS: Final = {"config.invalid", "usage.arguments"}
"""Reasons of mistakes that have nothing in common: what to do is said with each of them."""
MISTAKES: Final = 50
"""Mistakes that are told at once."""


class Spot(NamedTuple):
    """A place in a file that a person wrote: what an error is about."""

    file: str
    line: int
    """From 1."""
    column: int
    """From 1, in characters."""
    width: int
    """Characters of that line."""
    text: str = ""
    """The line itself, where it is in no file that can be read again: a statement that was typed."""


def reason_of(name: str) -> Reason:
    """What a reason means: that of REASONS, or OWN for a name that a codec of somebody else made up."""
    return REASONS.get(name, OWN)


class LmstreamError(Exception):
    """Base of all errors that lmstream raises on purpose. `str()` says what, where, why, the fix and where to read on.

    `exit_code` is what the command line returns: 1 at run time, 2 for usage and configuration.
    """

    exit_code = 1

    def __init__(self, reason: str, detail: str = "", fix: str = "", spot: Spot | None = None) -> None:
        """`reason` is a key of REASONS, or of a codec's own: `name.word` in lower case; `detail` says what was seen and
        where; `fix` replaces that of the reason; `spot` is where in a file it stands."""
        super().__init__(reason, detail, fix)
        self.reason = reason
        self.detail = detail
        self._fix = fix
        self.spot = spot

    @property
    def code(self) -> str:
        """The stable code, LMS-nnnn."""
        return reason_of(self.reason).code

    @property
    def fix(self) -> str:
        """What to do about it, one sentence. Empty when the detail says it, as in "expected one of ..."."""
        return self._fix or ("" if self.detail and self.reason in _VARIOUS else reason_of(self.reason).fix)

    @property
    def errors(self) -> "tuple[LmstreamError, ...]":
        """The errors that this one stands for: itself, or each mistake of several."""
        return (self,)

    @property
    def mend(self) -> str:
        """`fix`, as it was called before; for one version."""
        warnings.warn("LmstreamError.mend is now fix; this name goes with the next version", DeprecationWarning, 2)
        return self.fix

    def __str__(self) -> str:
        why = reason_of(self.reason)
        detail = (self.detail or why.meaning).rstrip(". ")
        fix = f" Fix: {self.fix}." if self.fix else ""
        return f"{why.code} {detail} [{self.reason}].{fix} {more(why.code)}"


def more(code: str) -> str:
    """Where to read on: the runbook section, on the command line."""
    return f"More: lmstream explain {code}"


class DecodeError(LmstreamError):
    """The producer must act: these bytes will never decode as a bundle. The only error of `Engine.fan_out`."""


class ConfigError(LmstreamError):
    """The operator must act before a start: a setting is wrong, or an extra is not installed."""

    exit_code = 2

    @classmethod
    def missing(cls, what: str, *extras: str, package: object = "") -> "ConfigError":
        """That `what` needs what one of these extras brings: a package that is not installed."""
        # From where lmstream came, and not by its name: on an index of everybody that name is whoever takes it.
        some = " or ".join(f"[{each}]" for each in extras)
        detail = f"{what} needs the extra {some}{f', for {package}' if package else ''}"
        where = f"pip install '.[{extras[0]}]' in the checkout of lmstream, or 'FILE.whl[{extras[0]}]' with its wheel"
        return cls("config.extra", detail, where)


class PluginError(LmstreamError):
    """The author of a module that is not lmstream's must act: a codec, source, sink or place raised what it may not."""

    def __init__(self, module: str, what: str) -> None:
        """`what` it did, as in `raised KeyError: 'x' at codec.py:12`."""
        super().__init__("plugin.failed", f"{module} {what}")
        self.args: tuple[object, ...] = (module, what)
        self.module: str = module
        self.what: str = what

    @classmethod
    def raised(cls, module: str, error: BaseException) -> "PluginError":
        """That it raised this error, and where."""
        at = ""
        if (trace := error.__traceback__) is not None:
            while trace.tb_next is not None:
                trace = trace.tb_next
            code = trace.tb_frame.f_code
            at = f" at {Path(code.co_filename).name}:{trace.tb_lineno} in {code.co_name}"
        return cls(module, f"raised {type(error).__name__}: {error}{at}")


class MistakesError(ConfigError):
    """Several mistakes, found at once. `str()` is one line for each, of the first 50."""

    def __init__(self, errors: Sequence[LmstreamError]) -> None:
        """`errors` are two at least."""
        super().__init__(errors[0].reason, "; ".join(each.detail for each in errors))
        self.args: tuple[object, ...] = (errors,)
        self._errors = tuple(errors)

    @property
    def errors(self) -> tuple[LmstreamError, ...]:
        return self._errors

    def __str__(self) -> str:
        return "\n".join(lines(self))


def lines(error: LmstreamError) -> list[str]:
    """An error as a person reads it, a line for each mistake; those past MISTAKES are counted."""
    more = len(error.errors) - MISTAKES
    return [*map(str, error.errors[:MISTAKES]), *([f"and {more:,} more mistakes"] if more > 0 else [])]


def refuse(errors: Sequence[LmstreamError]) -> None:
    """Raise what was found: nothing, the one error, or MistakesError of all of them."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise MistakesError(errors)


class SourceError(LmstreamError):
    """The operator or the network must act: records cannot be read. Nothing was committed that was not delivered."""


class RestartError(SourceError):
    """The process must be restarted: it cannot recover without a restart. Nothing was lost."""

    exit_code = 75  # EX_TEMPFAIL of sysexits


class SinkError(LmstreamError):
    """The operator or the service must act: rows cannot be delivered. Nothing was committed that was not delivered."""


def coded(reason: str, otherwise: str = "source.stuck") -> dict[str, str]:
    """Code and reason for a log entry, so that an operator finds its section of the runbook.

    `otherwise` is used when `reason` is a service's own error code and no key of REASONS.
    """
    reason = reason if reason in REASONS else otherwise
    return {"code": REASONS[reason].code, "reason": reason}
