"""Errors named by who must act, and the table of reasons and codes that explains each of them."""

from lmstream.errors.exceptions import (
    REASONS,
    ConfigError,
    DecodeError,
    LmstreamError,
    MistakesError,
    PluginError,
    RestartError,
    SinkError,
    SourceError,
    Spot,
    coded,
    lines,
    more,
    reason_of,
    refuse,
)
from lmstream.errors.reason import Reason

__all__ = [
    "REASONS",
    "ConfigError",
    "DecodeError",
    "LmstreamError",
    "MistakesError",
    "PluginError",
    "Reason",
    "RestartError",
    "SinkError",
    "SourceError",
    "Spot",
    "coded",
    "lines",
    "more",
    "reason_of",
    "refuse",
]
