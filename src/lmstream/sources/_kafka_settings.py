"""Settings of the Kafka source, and what is read from them before any connection: addresses and PEM files."""

import os
import ssl
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from lmstream.errors import ConfigError
from lmstream.settings import MIB

Milliseconds = Annotated[int, Meta(ge=1)]
Bytes = Annotated[int, Meta(ge=1024)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the Kafka source. Timeouts are those that survive a broker restart; change them in tests."""

    bootstrap: str
    """Brokers as `host:port`, comma-separated."""
    topics: tuple[str, ...]
    group: str = "lmstream"
    """Consumer group: members of one group share the partitions, and its offsets are all the state there is."""
    start_from: Literal["earliest", "latest"] = "earliest"
    """Where partitions start for which the group has no commit. A commit always wins."""
    security: Literal["plaintext", "ssl"] = "plaintext"
    ca: str = ""
    """PEM file of the authorities that may sign the brokers; empty takes the system's."""
    cert: str = ""
    """PEM file of the client's certificate chain, for mTLS."""
    key: str = ""
    """PEM file of the client's key; empty when it is in `cert`."""
    key_password: str = ""
    """Where the key's password is: `env:NAME` or `file:PATH`. Never the password itself."""
    client_rack: str = ""
    """Availability zone, to read from replicas nearby."""
    fetch_bytes: Bytes = 16 * MIB
    """Bytes one broker may send at a time."""
    partition_bytes: Bytes = 1 * MIB
    """Bytes of one partition fetched ahead. Memory is at most this times the partitions, beside what is in flight."""
    session_timeout_ms: Milliseconds = 45_000
    """After this long without a heartbeat the group gives our partitions to others."""
    heartbeat_interval_ms: Milliseconds = 3_000
    rebalance_timeout_ms: Milliseconds = 60_000
    """How long the group waits for us when it rebalances; the drain has to fit in."""
    drain_timeout_ms: Milliseconds = 55_000
    """How long what is in flight may take before its partitions are given up regardless: rows may then come twice. The
    runtime gives up by itself before that."""
    request_timeout_ms: Milliseconds = 90_000
    """Above the rebalance timeout: a JoinGroup is answered only at its end."""
    commit_timeout_ms: Milliseconds = 10_000
    max_poll_interval_ms: Milliseconds = 300_000
    startup_timeout_ms: Milliseconds = 10_000
    """How long a start may take to find brokers and topics."""


def addresses(bootstrap: str) -> list[tuple[str, int]]:
    """Read `host:port,host:port`. Raises ConfigError."""
    found: list[tuple[str, int]] = []
    for one in filter(None, (part.strip() for part in bootstrap.split(","))):
        host, _, port = one.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError("config.invalid", f"bootstrap: {one!r} is not host:port")
        found.append((host.strip("[]"), int(port)))
    if not found:
        raise ConfigError("config.invalid", "bootstrap: no broker is named")
    return found


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """Load the PEM files; None for plaintext. Raises ConfigError that names the file and what is wrong with it."""
    named = [name for name in ("ca", "cert", "key", "key_password") if getattr(settings, name)]
    if settings.security == "plaintext":
        if named:
            raise ConfigError("config.invalid", f'{", ".join(named)} set, but security is "plaintext": set it to "ssl"')
        return None
    if settings.key and not settings.cert:
        raise ConfigError("config.invalid", "key is set without cert")
    for path in filter(None, (settings.ca, settings.cert, settings.key)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise ConfigError("config.invalid", f"{path}: {error.strerror or error}") from error
    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
    except ssl.SSLError as error:
        raise ConfigError("config.invalid", f"{settings.ca}: no PEM certificates ({error.reason or error})") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert:
        _load_client(context, settings)
    return context


def _load_client(context: ssl.SSLContext, settings: Settings) -> None:
    password = _secret(settings.key_password)
    asked: list[bool] = []

    def answer() -> str:
        asked.append(True)  # without a callback OpenSSL would ask on the terminal
        return password

    try:
        context.load_cert_chain(settings.cert, settings.key or None, password=answer)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            problem = f"{settings.cert} and {settings.key or settings.cert} do not belong together"
        elif asked and not password:
            problem = f"{settings.key or settings.cert}: the key is encrypted and key_password is not set"
        elif asked:
            problem = f"{settings.key or settings.cert}: wrong key_password ({reason})"
        else:
            problem = (
                f"{settings.cert}, {settings.key or 'key in the same file'}: not a PEM certificate and key ({reason})"
            )
        raise ConfigError("config.invalid", problem) from error


def _secret(reference: str) -> str:
    kind, _, where = reference.partition(":")
    if not reference:
        return ""
    if kind == "env" and where:
        if where in os.environ:
            return os.environ[where]
        raise ConfigError("config.invalid", f"key_password: the environment has no {where}")
    if kind == "file" and where:
        try:
            return Path(where).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("config.invalid", f"key_password: {where} cannot be read") from error
    # The value itself is not repeated: it may be the secret.
    raise ConfigError("config.invalid", "key_password must be env:NAME or file:PATH")
