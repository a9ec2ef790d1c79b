"""Settings of what operators see."""

import ipaddress
from typing import Final, Literal

from msgspec import Struct

_LAST_PORT: Final = 65_535


class EndpointSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """/healthz, /readyz, /metrics, /statusz."""

    address: str = ""
    """`host:port` to serve them at. Empty: 127.0.0.1:9464 for a source that does not end; `off`: none. A port that is
    taken is retried while the run continues. Workers take the next ports, one each. Whoever can reach it reads topics,
    offsets and errors: no payloads, no secrets.
    Costs: nothing: health checks and Prometheus must follow it."""
    tap: str = ""
    """`host:port` of this machine at which `lmstream tap` looks at rows as they are made: 127.0.0.1:9474, or another
    loopback address; any other is refused. Empty: none. Workers take the next ports, one each. Whoever may log in on
    this machine reads rows there, so that it is off unless it is set.
    Costs: nothing: rows are looked at for 2 % of the time at most, and only while somebody looks."""
    tap_mask: tuple[str, ...] = ()
    """Attributes and fields whose values the tap shows as ***, whoever asks.
    Costs: nothing."""

    def __post_init__(self) -> None:
        """Raises ValueError for a tap that others could reach."""
        fix = "use 127.0.0.1:9474, [::1]:9474 or localhost:9474"
        if self.tap and not self.tap_at:
            raise ValueError(f"tap: {self.tap!r} is not an address that this machine alone can reach: {fix}")

    @property
    def tap_at(self) -> tuple[str, int] | None:
        """Host and port of the tap; None without one, or for an address that is not this machine's alone."""
        host, _, port = self.tap.rpartition(":")
        host = "127.0.0.1" if host == "localhost" else host.strip("[]")
        if not port.isdigit() or int(port) > _LAST_PORT:
            return None
        try:
            return (host, int(port)) if ipaddress.ip_address(host).is_loopback else None
        except ValueError:
            return None


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
