"""Flags that several verbs share, and the settings that they stand for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter

from lmstream.cli.values import remember
from lmstream.config import Config, load
from lmstream.config.config import Look
from lmstream.config.convert import Text
from lmstream.errors import ConfigError
from lmstream.kafka.settings import Settings as KafkaSettings
from lmstream.settings import seconds_of
from lmstream.storage.objects import S3Access

ConfigFile = Annotated[Path | None, Parameter(env_var="LMSTREAM_CONFIG")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SetFlags:
    """Any setting that has no flag of its own."""

    settings: Annotated[tuple[str, ...], Parameter(name="--set")] = ()
    """Any other setting, as KEY=VALUE: --set delivery.concurrency=4. May be repeated."""

    def overrides(self) -> dict[str, Any]:
        """Answer the settings that the other flags stand for, by key path."""
        return {}

    def over(self, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        """These flags, `overrides` over them, and --set over all."""
        found = self.overrides() | given(overrides or {})
        for text in self.settings:
            key, equals, value = text.partition("=")
            if not equals or "." not in key:
                raise ConfigError("config.invalid", f"--set {text}: expected KEY=VALUE, as in delivery.concurrency=4")
            found[key] = Text(value)
        return found


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FileFlags(SetFlags):
    """The file of settings, and single ones."""

    config: ConfigFile = None
    """TOML file with settings; flags override LMSTREAM_* variables, and variables override the file."""

    def load(self, overrides: dict[str, Any] | None = None, looks: Sequence[Look] = ()) -> Config:
        """Read the configuration: file, environment, these flags, `overrides`; it has to pass `looks`."""
        config = load(self.config, overrides=self.over(overrides), looks=looks)
        source = None if config.source is None else config.source.settings
        if isinstance(source, KafkaSettings):
            remember("topics", [topic for topic in source.topics if not topic.startswith("^")])
        return config


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RowFlags(SetFlags):
    """Flags of the engine alone: what a bundle becomes."""

    org: str | None = None
    """Organization of the rows: LMDP sends none."""
    source_id: str | None = None
    """Name of the Kafka cluster in row ids, if two clusters have topics of the same name."""
    input_format: str | None = None
    """Format of the bundles: otlp_json, otlp_proto, or your own module; auto detects it from the bytes."""

    def overrides(self) -> dict[str, Any]:
        """Answer the settings that were given, by key path."""
        return given(
            {"engine.org_id": self.org, "engine.source_id": self.source_id, "engine.format": self.input_format}
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EngineFlags(RowFlags, FileFlags):
    """Flags of the engine, and the file of its settings."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BrokerFlags:
    """Flags of the connection to Kafka."""

    bootstrap: str | None = None
    """Brokers, as host:port,host:port."""
    ca: Path | None = None
    """CA certificates in PEM. This, --cert or --tls makes the connection TLS, with whatever SASL the settings have."""
    cert: str | None = None
    """Client certificate in PEM, for mTLS; or awssm:NAME of a secret with certificate and key."""
    key: Path | None = None
    """Private key of the client certificate in PEM."""
    key_password: str | None = None
    """Where the key's password is: env:NAME or file:PATH."""
    sasl: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER", "AWS_MSK_IAM"] | None = None
    """SASL over TLS instead of a client certificate; tokens are set in the file, as source.oauth_*."""
    sasl_username: str | None = None
    """User of SCRAM or PLAIN."""
    sasl_password: str | None = None
    """Where its password is: env:NAME, file:PATH or awssm:NAME."""
    tls: bool = False
    """Use TLS with the system's certificate authorities."""

    def overrides(self) -> dict[str, Any]:
        """Answer the settings of the Kafka source that were given, by key path."""
        secure = self.tls or any((self.ca, self.cert, self.key, self.key_password))
        named = {f"source.{name}": getattr(self, name) for name in _OF_CONNECTION}
        security = "sasl_ssl" if self.sasl else by_tls if secure else None
        return given(named | {"source.security": security, "source.sasl_mechanism": self.sasl})


_OF_CONNECTION: Final = ("bootstrap", "sasl_username", "sasl_password", "ca", "cert", "key", "key_password")
"""Flags that are called like their settings."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ClusterFlags(BrokerFlags, FileFlags):
    """Flags of the connection to Kafka, and the file of its settings: for verbs that need nothing else of it."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class S3Flags:
    """Flags of s3:// places."""

    s3_endpoint_url: str | None = None
    """Another endpoint for s3:// places: a VPC endpoint, or any store that speaks S3."""
    s3_region: str | None = None
    """AWS region of s3:// places."""

    @property
    def access(self) -> S3Access:
        """How such a place is reached."""
        return S3Access(endpoint_url=self.s3_endpoint_url, region=self.s3_region)


def _seconds(_: object, tokens: Sequence[Any]) -> float:
    """Read a duration of the command line: seconds, or with a unit as in 90s, 15m, 72h, 7d."""
    try:
        return duration(tokens[0].value)
    except ConfigError as e:
        raise ValueError(e.detail) from e  # the parser adds the flag


def duration(text: str) -> float:
    """Seconds of a duration such as 5, 90s, 15m, 72h or 7d. Raises ConfigError."""
    try:
        seconds = seconds_of(text)
        seconds = float(text) if seconds is None else seconds
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise ConfigError("usage.arguments", f"{text!r} is not a duration: expected 5 (seconds), 90s, 15m, 72h or 7d")
    return seconds


Seconds = Annotated[float, Parameter(converter=_seconds, show_default=False)]
"""A duration: seconds, or with a unit as in 15m. Help says a default in words: 259200.0 is none that one would type."""


def by_tls(security: object) -> str:
    """What a flag about certificates makes of source.security: TLS, and SASL stays as it is."""
    return "sasl_ssl" if str(security).startswith("sasl_") else "ssl"


def of_kafka(kind: object) -> str:
    """What a flag about topics, brokers or a group makes of source.type: Kafka, by the client that is chosen."""
    return "confluent" if kind == "confluent" else "kafka"


Json = Annotated[bool, Parameter(name="--json")]
NO_FILE: Final = FileFlags()
NO_ENGINE: Final = EngineFlags()
NO_ROWS: Final = RowFlags()
NO_BROKER: Final = BrokerFlags()
NO_CLUSTER: Final = ClusterFlags()
NO_S3: Final = S3Flags()
"""Nothing given: the defaults of verbs that have these flags."""


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of `settings` that are not None; paths as text."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in settings.items() if v is not None}
