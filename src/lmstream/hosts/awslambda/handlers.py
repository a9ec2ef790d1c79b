"""The function's handlers, as Lambda calls them; adapters/lambda gives them the names of the zip."""

import os
from functools import cache
from typing import Any

from lmstream.hosts.awslambda.host import Context, Host, from_environment


@cache
def host() -> Host:
    """The environment's host, made by its first invocation: an error of settings is then an answer, not a crash."""
    return from_environment(os.environ)


def handler(event: Any, context: Context) -> dict[str, Any]:
    """Either kind of event."""
    return host().handle(event, context)


def pipe_handler(event: Any, context: Context) -> dict[str, Any]:
    """A Pipe's list. Raises when any record is left undelivered: a Pipe knows no partial answer."""
    return host().handle(event, context, "pipe")


def esm_handler(event: Any, context: Context) -> dict[str, Any]:
    """A mapping's object. Answers batchItemFailures when LMSTREAM_LAMBDA__PARTIAL_FAILURES is true, else raises."""
    return host().handle(event, context, "mapping")
