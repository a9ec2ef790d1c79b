"""Logs by structlog: JSON off a terminal, coloured on it. Hostile text is escaped and cut, secrets never come.

Parts of lmstream log with the standard library; here is where lines are made. What a record was about goes along as
fields (`extra={"topic": ..., "code": ...}`), never a payload.
"""

import logging
import re
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from lmstream.errors import ConfigError
from lmstream.observability.calm import Calm, levels
from lmstream.visible import visible

try:
    import structlog
except ImportError as _error:
    raise ConfigError.missing("the log of a run", "consumer") from _error

CUT: Final = 2_000
"""Characters of one text in a log line; what senders choose must not fill a disk."""
_LOOKED_AT: Final = 10 * CUT
"""Characters of a text that are looked at: regular expressions take seconds for a megabyte."""
_FIELDS: Final = ("topic", "partition", "offset", "code", "reason")
_CODE: Final = re.compile(r"\bLMS-\d{4}\b")
_PLACE: Final = re.compile(r"(?<![\w/.])([A-Za-z0-9._-]{1,249})/(\d{1,9})/(\d{1,19})\b")
_SECRET: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|(?<=password=)\S+|(?<=password: )\S+|(?<=AWS_SECRET_ACCESS_KEY=)\S+|(?<=AWS_SESSION_TOKEN=)\S+",
    re.DOTALL | re.IGNORECASE,
)


def clean(text: str) -> str:
    """One line of a text: control characters visible, secrets gone, cut."""
    shown = visible(_SECRET.sub("[secret]", text[:_LOOKED_AT]).replace("\t", " "))
    return shown if len(shown) <= CUT else f"{shown[:CUT]}… ({len(text):,} characters)"


def _fields(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take coordinates and code from the record, else from its text: every warning can then be searched by them."""
    record = event.get("_record")
    text = str(event.get("event", ""))[:_LOOKED_AT]
    for name in _FIELDS:
        value = getattr(record, name, None)
        if value is not None:
            event.setdefault(name, value)
    event.update(getattr(record, "fields", {}))
    if "code" not in event and (found := _CODE.search(text)):
        event["code"] = found[0]
    if "topic" not in event and (place := _PLACE.search(text)):
        event.update(topic=place[1], partition=int(place[2]), offset=int(place[3]))
    return event


def _cleaned(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str) and name != "exception":
            event[name] = clean(value)
        elif isinstance(value, str):
            lines = _SECRET.sub("[secret]", value[-_LOOKED_AT:]).split("\n")
            event[name] = "\n".join(f"| {visible(line)}" for line in lines)  # a message in it may have lines too
    return event


class _Stderr(logging.StreamHandler[Any]):
    """Writes to what standard error is at that moment: a live view takes its place, and prints lines above itself."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class LastTrouble(logging.Handler):
    """Remembers the last warning or error, for the status page."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last: dict[str, Any] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, cleaned as a line would be."""
        fields = {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        text = clean(record.getMessage())[:500]
        self.last = {"time": moment, "level": record.levelname.lower(), **fields, "message": text}


def handler(*, json: bool, colors: bool = True, worker: int = 0, stream: Any = None) -> logging.Handler:
    """A handler that writes lines to `stream`, standard error by default; of one worker of several, by its number."""
    last: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=True)
        if json
        else structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0)
    )

    def named(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if worker:
            event["worker"] = worker
        return event

    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            named,
            _fields,
            structlog.processors.format_exc_info,
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _cleaned, last],
    )
    made = logging.StreamHandler(stream) if stream is not None else _Stderr()
    made.setFormatter(formatter)
    made.addFilter(Calm())
    return made


@contextmanager
def logging_to(made: logging.Handler, level: int = logging.INFO) -> Iterator[None]:
    """Send what lmstream says, from `level` on, to a handler; from DEBUG on also what its clients complain."""
    root = logging.getLogger()
    others, root.handlers = root.handlers, [made]
    try:
        with levels(level):
            yield
    finally:
        root.handlers = others
