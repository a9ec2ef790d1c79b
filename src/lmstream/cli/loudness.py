"""How much a verb says on stderr: -q, -v, --debug, LMSTREAM_LOG."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from lmstream.errors import ConfigError

VARIABLE: Final = "LMSTREAM_LOG"
LEVELS: Final = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
_STEP: Final = logging.INFO - logging.DEBUG
_VERBOSE: Final = {"-v": 1, "--verbose": 1, "-vv": 2, "-vvv": 3}
_QUIET: Final = ("-q", "--quiet")
_TRACES: Final = "--debug"
_FLAGS: Final = {*_VERBOSE, *_QUIET, _TRACES}


class Loudness(NamedTuple):
    """How much is said: the flags that every verb takes, and the environment."""

    named: int | None = None
    """Level of log lines by LMSTREAM_LOG; None: what is usual for the verb, info for a run, warning for all others."""
    steps: int = 0
    """How many -v there are: each lowers the level by one."""
    quiet: bool = False
    """Errors alone: no talk, no progress, no summary."""
    traces: bool = False
    """With --debug errors show their traceback."""

    def level(self, usual: int) -> int:
        """The level from which on log lines are shown."""
        if self.traces:
            return logging.DEBUG
        if self.quiet:
            return logging.ERROR
        return max(logging.DEBUG, (usual if self.named is None else self.named) - _STEP * self.steps)


def loudness_of(arguments: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[Loudness, list[str]]:
    """How much is said, and the arguments without these flags. Behind `--` nothing is a flag. Raises ConfigError."""
    env = os.environ if env is None else env
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = [each for each in arguments[:end] if each in _FLAGS]
    others = [each for each in arguments[:end] if each not in _FLAGS]
    steps = sum(_VERBOSE.get(each, 0) for each in flags)
    quiet = any(each in _QUIET for each in flags)
    traces = _TRACES in flags or debugging(env)
    if quiet and (steps or _TRACES in flags):
        raise ConfigError("usage.arguments", "-q and -v at once: give one of them")
    return Loudness(_named(env), steps, quiet, traces), [*others, *arguments[end:]]


def debugging(env: Mapping[str, str] | None = None) -> bool:
    """Whether LMSTREAM_DEBUG asks for tracebacks."""
    return (os.environ if env is None else env).get("LMSTREAM_DEBUG", "") not in {"", "0"}


def _named(env: Mapping[str, str]) -> int | None:
    text = env.get(VARIABLE, "").strip().lower()
    if text and text not in LEVELS:
        raise ConfigError("config.invalid", f"{VARIABLE}={text}: expected one of {', '.join(LEVELS)}")
    return LEVELS.get(text)
