"""Settings of what operators see."""

from typing import Literal

from msgspec import Struct


class EndpointSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """/healthz, /readyz, /metrics, /statusz."""

    address: str = ""
    """`host:port` to serve them at. Empty: 127.0.0.1:9464 for a source that does not end; `off`: none. A port that is
    taken is retried while the run continues. Workers take the next ports, one each. Whoever can reach it reads topics,
    offsets and errors: no payloads, no secrets."""


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log lines on standard error."""

    format: Literal["auto", "json", "console"] = "auto"
    """`auto`: console on a terminal, else JSON for log lines and plain text for what a run says of itself. `json`: one
    JSON object for every line, for log collectors."""
    cloudwatch: str = ""
    """Namespace of metrics in CloudWatch: once a minute a line in the embedded metric format says what was counted, for
    a log that CloudWatch takes in. Empty: no such line."""
    service: str = "lmstream"
    """Value of their one dimension, `service`."""
