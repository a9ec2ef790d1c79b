"""The function's handlers: set one of them as the handler, and LMSTREAM_* variables as in docs/lambda.md.

`lmstream_lambda.pipe_handler` is for the target of an EventBridge Pipe, `lmstream_lambda.esm_handler` for a Kafka event
source mapping; `lmstream_lambda.handler` tells them apart by the event.
"""

from lmstream.hosts.awslambda.handlers import esm_handler, handler, pipe_handler

__all__ = ["esm_handler", "handler", "pipe_handler"]
