"""Errors named by who must act, and the table of reasons and codes that explains each of them."""

from lmstream.errors.exceptions import (
    REASONS,
    ConfigError,
    DecodeError,
    LmstreamError,
    RestartError,
    SinkError,
    SourceError,
    coded,
    more,
)
from lmstream.errors.reason import Reason

__all__ = [
    "REASONS",
    "ConfigError",
    "DecodeError",
    "LmstreamError",
    "Reason",
    "RestartError",
    "SinkError",
    "SourceError",
    "coded",
    "more",
]
