"""What a run says: log lines as the settings want them, and its talk among them."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from functools import partial
from typing import Final

from lmstream.cli import terminal
from lmstream.config import Config

_log: Final = logging.getLogger("lmstream.run")


@contextlib.contextmanager
def logged(config: Config, worker: int) -> Iterator[None]:
    """Log lines as the settings say. Files are read by hand: their few lines stay plain unless set otherwise."""
    form = config.logs.format
    if form == "auto" and config.finite:
        yield
        return
    from lmstream.observability.logs import handler, logging_to

    json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    made = handler(json=json, colors=terminal.styled(sys.stderr), worker=worker)
    before = terminal.teller
    if form == "json":
        terminal.teller = partial(_tell, made)
    with logging_to(made, terminal.loudness.level(logging.INFO)):
        yield
    # Not in a `finally`: what broke the run is said after this, and is a line like the others.
    terminal.teller = before


def _tell(made: logging.Handler, text: str, fields: terminal.Fields) -> None:
    """Make a line of what a run says of itself; what begins as an error's message does is one."""
    level = logging.ERROR if text.startswith("lmstream: ") else logging.INFO
    made.handle(
        _log.makeRecord(_log.name, level, "", 0, text.removeprefix("lmstream: "), (), None, extra={"fields": fields})
    )
