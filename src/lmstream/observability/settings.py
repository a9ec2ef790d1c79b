"""Settings of what operators see."""

import ipaddress
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

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
        """Raises ValueError for an invalid address, and for a tap that others could reach."""
        host, _, port = self.address.rpartition(":")
        if self.address not in {"", "off"} and not (host and port.isdigit() and int(port) <= _LAST_PORT):
            raise ValueError(f"address: {self.address!r} is not host:port, as in 127.0.0.1:9464, or off")
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


class TelemetrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metrics and spans of lmstream itself, sent to an OpenTelemetry collector."""

    endpoint: str = ""
    """Base URL of a collector that takes OTLP over HTTP, as in http://127.0.0.1:4318: metrics go to /v1/metrics below
    it, spans to /v1/traces. Empty: none. Needs the extra [otel]. Whoever reads there sees topics, offsets and codes of
    errors: no payloads, no secrets. For `lmstream run` and replays; the function has none.
    Costs: nothing: a collector that is away or slow costs its own metrics and spans, never a record."""
    headers: dict[str, str] = {}
    """HTTP headers of each request, as in { authorization = "env:OTLP_TOKEN" }: where the value is, `env:NAME` or
    `file:PATH`, never the value itself. Read at a start.
    Costs: nothing."""
    interval: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    """Seconds between two exports of all metrics.
    Costs: nothing: about a millisecond of the process each.
    Limit: lmstream's own, against mistyped values."""
    timeout: Annotated[float, Meta(gt=0, le=60)] = 10.0
    """Seconds for one request, its answer included. What is not taken by then is lost: counters come again with the
    next export, spans do not.
    Costs: nothing.
    Limit: lmstream's own, against mistyped values."""
    attributes: dict[str, str] = {}
    """Attributes of the resource, as in { "deployment.environment.name" = "prod" }, beside service.name (lmstream),
    service.version and service.instance.id (host name and process), which they may replace.
    Costs: nothing: dashboards must follow them."""
    traces: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the batches of which a span is sent: 0 is none, 1 is each. A batch is what one poll brought; its span
    ends when the last record is settled, and is linked to the traces that the records' headers name (traceparent).
    Unit: share
    Costs: money: collectors and what is behind them bill spans.
    Limit: 1 is all of them."""

    def __post_init__(self) -> None:
        """Raises ValueError for what is no endpoint, which is not repeated: it may hold a secret."""
        if not self.endpoint:
            return
        try:
            url = urlsplit(self.endpoint)
            bad = url.scheme not in ("http", "https") or not url.hostname or url.port == 0
        except ValueError:
            bad = True
        if bad or url.username is not None or url.query or url.fragment:
            raise ValueError(
                "endpoint: expected http://HOST:PORT or https://HOST:PORT, with a path or without, no more"
            )
