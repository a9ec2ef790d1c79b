"""How verbs speak: data on stdout, talk on stderr, progress on terminals only, and nothing hostile to a terminal."""

import contextlib
import json
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import msgspec

from lmstream.cli.loudness import Loudness
from lmstream.observability.calm import levels
from lmstream.visible import visible

T = TypeVar("T")
_UNBOUNDED = 200  # columns of a tree that nothing bounds
TEXT_LIMIT = 200
"""Characters shown of a text that came from data: long enough for names, short enough for a terminal."""


def clean(text: str, *, limit: int = TEXT_LIMIT) -> str:
    """The beginning of `text` in one line, without anything that steers a terminal."""
    safe = visible(text[:limit])
    return safe + "…" if len(text) > limit else safe


def cell(value: object, *, limit: int = TEXT_LIMIT) -> str:
    """`value` as the text of one table cell: one line, cleaned."""
    if value is None:
        return ""
    if not isinstance(value, str):
        value = (
            json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list, tuple)) else str(value)
        )
    return clean(value, limit=limit)


prefix = ""
"""Before every line of talk: the name of a worker process."""


Fields = Mapping[str, Any]
"""What a line of talk says, for machines."""
teller: Callable[[str, Fields], None] | None = None
"""Takes every line of talk, with its fields, instead of standard error, when it is set."""


loudness = Loudness()
"""How much is said."""


@contextlib.contextmanager
def speaking(loud: Loudness) -> Iterator[None]:
    """Say so much."""
    global loudness  # noqa: PLW0603 - one process has one standard error
    before, loudness = loudness, loud
    try:
        yield
    finally:
        loudness = before


def say(text: str, fields: Fields = MappingProxyType({})) -> None:
    """One line of talk, unless -q wants none. Names in it may be anybody's: whatever steers a terminal, or would begin
    another line, is escaped here."""
    if not loudness.quiet:
        insist(text, fields)


def insist(text: str, fields: Fields = MappingProxyType({})) -> None:
    """The same with -q too: an error, a question, or why the exit code is not 0."""
    text = visible(text)
    if teller is not None:
        teller(text, fields)
        return
    # One write: lines of several processes must not run into each other. Whether somebody hears it changes nothing.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{prefix}{text}\n")
        sys.stderr.flush()


def print_json(value: object, *, indent: int | None = 2) -> None:
    """`value` as ASCII JSON on stdout: escapes every character that a terminal might act on."""
    print(json.dumps(value, indent=indent, default=str))


def print_lines(values: Iterable[object]) -> None:
    """Each of `values`, a struct or what JSON has, as one line of ASCII JSON on stdout."""
    for each in values:
        print_json(msgspec.to_builtins(each), indent=None)


def columns() -> int | None:
    """How wide standard output is: COLUMNS, which counts in a pipe too, or the terminal; None when neither says."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError, AttributeError):  # a pipe, a file, or kept in memory
        return None


def shows(text: str, stream: Any) -> bool:
    """Whether a stream has these characters in its encoding."""
    # While a view is drawn, rich stands before the stream and names no encoding.
    stream = getattr(stream, "rich_proxied_file", stream)
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError, AttributeError):
        return False
    return True


def draw(what: Any) -> None:
    """Print what rich draws on stdout. Without a terminal it is as wide as it needs to be."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # not rich's exit 1: a reader that goes away is no error

    Plain(width=columns() or _UNBOUNDED).print(what)


def columns_of_stderr() -> int | None:
    """How wide the terminal of standard error is; None when it is none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or None
    except (OSError, ValueError, AttributeError):
        return None


def styled(stream: Any) -> bool:
    """Whether a stream is a terminal that shows styles, and nobody wants none: https://no-color.org, TERM=dumb."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and not dumb()


def dumb() -> bool:
    """Whether the terminal understands no escape at all."""
    return os.environ.get("TERM", "") in {"dumb", "unknown"}


def redraws() -> bool:
    """Whether stderr can be drawn over: a bar or a view in place of lines."""
    return is_terminal(sys.stderr) and not dumb()


def is_terminal(stream: Any) -> bool:
    """Whether somebody looks at a stream; one that was closed has nobody."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def shows_panels() -> bool:
    """Whether talk goes to a terminal, and not into a log or among that of other processes."""
    return teller is None and not prefix and is_terminal(sys.stderr)


def put(lines: Iterable[str]) -> None:
    """Write lines of our own making to stderr, with their styles. Data in them was cleaned."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()


def console(stream: Any) -> Any:
    """A rich console on a stream; without styles where nobody wants them."""
    from rich.console import Console

    return Console(file=stream, color_system="auto" if styled(stream) else None, force_jupyter=False)


@contextlib.contextmanager
def read_or_not() -> Iterator[None]:
    """Print, and continue if nobody reads it: for exit codes that must not depend on the reader."""
    try:
        yield
        sys.stdout.flush()
    except OSError as e:
        deaf()
        if not isinstance(e, BrokenPipeError):
            say(f"standard output cannot be written: {e}")


def reader_has_gone() -> bool:
    """Whether nobody will ever read standard output: it is a pipe, and its other end is closed."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):  # it is no file, but kept in memory
        return False


def deaf() -> None:
    """Let what is still printed go nowhere, and the interpreter say nothing of it at its exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class _Line(logging.Formatter):
    """One log record as one line of talk: newlines and escapes in it stay visible and harmless."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        # A traceback keeps its lines, marked as what they are: a message in it may have lines too.
        return "\n| ".join(map(clean_line, text.split("\n"))) if record.exc_info else clean_line(text)


def clean_line(text: str) -> str:
    """A line of a log or of a traceback: long enough for both."""
    return clean(text, limit=20_000)


@contextlib.contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Send log lines to stderr: warnings, or what -q, -v and LMSTREAM_LOG want."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        with levels(loudness.level(logging.WARNING)):
            yield
    finally:
        logging.getLogger().removeHandler(handler)


class Progress:
    """A bar on a terminal, else a plain line every `every` seconds. `advance` is cheap enough to call per bundle."""

    def __init__(self, what: str, total: int | None = None, *, every: float = 5.0) -> None:
        """Count `what`, a plural; `total` of them are expected, None when the total is unknown."""
        self._what, self._total, self._every = what, total, every
        self._done = 0
        self._began = self._said = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Self:
        if redraws() and not loudness.quiet:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console(sys.stderr),
                transient=True,
            )
            self._bar.add_task(self._what, total=self._total)
            self._bar.start()
        return self

    def advance(self, count: int = 1) -> None:
        """`count` more are done."""
        self._done += count
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], count)
            return
        now = time.monotonic()
        if now - self._said >= self._every:
            self._said = now
            of = f" of {self._total:,}" if self._total is not None else ""
            say(f"{self._done:,}{of} {self._what}, {self._done / (now - self._began):,.0f}/s")

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()


def counted(what: str, things: Iterable[T]) -> Iterator[T]:
    """Pass things through, and show how many there were: `what`, a plural."""
    with Progress(what) as progress:
        for each in things:
            yield each
            progress.advance()
