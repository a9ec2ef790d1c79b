"""Settings of what operators see."""

from typing import Literal

from msgspec import Struct


class EndpointSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """/healthz, /readyz, /metrics, /statusz."""

    address: str = ""
    """`host:port` to serve them at. Empty: 127.0.0.1:9464 for a source that does not end; `off`: none. A port that is
    taken is retried while the run continues. Workers take the next ports, one each. Whoever can reach it reads topics,
    offsets and errors: no payloads, no secrets.
    Costs: nothing: health checks and Prometheus must follow it."""


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log lines on standard error."""

    format: Literal["auto", "json", "console"] = "auto"
    """`auto`: console on a terminal, else JSON for log lines and plain text for what a run says of itself. `json`: one
    JSON object for every line, for log collectors.
    Costs: nothing: whatever reads the log must follow it."""
    cloudwatch: str = ""
    """Namespace of metrics in CloudWatch: once a minute a line in the embedded metric format says what was counted, for
    a log that CloudWatch takes in. Empty: no such line.
    Costs: money: CloudWatch bills each metric."""
    service: str = "lmstream"
    """Value of their one dimension, `service`.
    Costs: money: another value is a second set of metrics, and alarms must follow it."""
