"""Run a verb: its arguments, its exit code, and what is said of an error. Every way out of a verb is here."""

import contextlib
import errno
import io
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from typing import Final

from lmstream.cli import terminal
from lmstream.cli.loudness import debugging, loudness_of
from lmstream.cli.old_flags import renamed
from lmstream.cli.streams import streams_in_place
from lmstream.cli.verbs import verbs
from lmstream.errors import REASONS, ConfigError, LmstreamError, SinkError, lines, refuse
from lmstream.observability.unblocked import unblocked

OK, FAILED, USAGE, NOT_VERIFIED, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""Exit codes: done; a run-time error; usage or configuration; rows lost or phantom; some records were dead-lettered
and --strict was given; stopped by the keyboard."""

_WIDE: Final = 100  # columns of a panel at most: longer lines are hard to read
_ACTS: Final = ("run", "publish", "skip", "topic", "acls", "dlq replay", "dlq purge", "lake")
"""Verbs that change something. Who reads what they print has no say in whether it was done."""


def invoked(arguments: list[str]) -> int:
    """Run one verb; answer its exit code. Expected errors are one message; others one line unless --debug is given."""
    streams_in_place()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal cannot show is escaped, as on stderr
    try:
        loud, arguments = loudness_of(arguments)
    except LmstreamError as e:
        _complain(str(e))
        return USAGE
    # A service outlives whoever reads its log.
    with unblocked() if arguments[:1] == ["run"] else contextlib.nullcontext(), terminal.speaking(loud):
        acts = " ".join(arguments[:2]).startswith(_ACTS)
        return guarded(lambda: _run(arguments), debug=loud.traces, acts=acts)


def guarded(work: Callable[[], int], *, debug: bool | None = None, acts: bool = True) -> int:
    """Do the work; answer its exit code, or that of its error, which is said in one line. `acts` is whether it does
    more than print: then a reader that went away in the middle is no success."""
    debug = debugging() if debug is None else debug
    try:
        return _flushed(work())
    except LmstreamError as e:
        if debug:
            _trace(e)
        return tell(e)
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError as e:
        if not terminal.reader_has_gone():
            return _unexpected(e, debug=debug)
        terminal.deaf()  # keep the interpreter from saying so at exit
        if acts:
            tell(SinkError("sink.pipe"))
        return FAILED if acts else OK  # `lmstream query | head`: not our error
    except Exception as e:  # noqa: BLE001 - the last line of defence: a bug is one line, its traceback is asked for
        return _unexpected(e, debug=debug)


def _unexpected(error: Exception, *, debug: bool) -> int:
    from lmstream.config.plugins import blamed, extra_missing

    if debug:
        _trace(error)
    if known := blamed(error) or extra_missing(error, "this command"):
        return tell(known)
    if _starved(error):
        return tell(LmstreamError("machine.files", f"{REASONS['machine.files'].meaning}: {error}"))
    return tell(LmstreamError("bug.unexpected", f"unexpected {type(error).__name__}: {error}"))


def tell(error: LmstreamError, verb: str = "") -> int:
    """Say an error: on a terminal as a small panel, elsewhere in one line for each mistake. Answers its exit code."""
    if not terminal.shows_panels():
        for line in lines(error):
            _complain(line)
        return error.exit_code
    from lmstream.cli.error_panel import panel, plain, styled

    width = min(shutil.get_terminal_size((_WIDE, 24)).columns, _WIDE)
    terminal.put(panel(error, width, styled if terminal.styled(sys.stderr) else plain, verb))
    return error.exit_code


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()  # here, where a reader that went away is no error; at exit it would be
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as e:  # closed, or a full disk behind a redirection
        terminal.deaf()
        _complain(f"standard output cannot be written: {e}")
        return code or FAILED
    return code


def _starved(error: Exception) -> bool:
    """Whether a file could not be opened because too many are; a library that cannot be loaded says it in words."""
    if isinstance(error, OSError):
        return error.errno in {errno.EMFILE, errno.ENFILE}
    return isinstance(error, ImportError) and os.strerror(errno.EMFILE) in str(error)


def _run(arguments: list[str]) -> int:
    try:
        import cyclopts

        from lmstream.cli.parser import parser
    except ImportError as e:
        raise ConfigError.missing("the command line", "cli") from e

    app, verb = parser(), _verb(arguments)
    arguments = renamed(verb, arguments, terminal.insist)
    try:
        with terminal.logging_to_stderr():
            result = app(arguments, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as e:
        from lmstream.cli.usage import mistakes

        try:
            refuse(mistakes(app, arguments, e, verb))
        except ConfigError as error:
            return tell(error, verb)
    return result if isinstance(result, int) else OK


def _verb(arguments: list[str]) -> str:
    """The verb that was typed, as far as it is one."""
    found = [name for name in verbs() if arguments[: name.count(" ") + 1] == name.split(" ")]
    return max(found, key=len, default="")


def _trace(error: BaseException) -> None:
    for line in "".join(traceback.format_exception(error)).rstrip("\n").split("\n"):
        terminal.insist(line)


def _complain(text: str) -> None:
    terminal.insist(f"lmstream: {terminal.clean(text, limit=4000)}")
