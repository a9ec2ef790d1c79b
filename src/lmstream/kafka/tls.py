"""TLS of a Kafka client: one SSLContext for its whole life, whose client certificate is renewed while it runs."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from lmstream.delivery.tasks import end
from lmstream.errors import ConfigError, coded
from lmstream.kafka import certificates
from lmstream.kafka.certificates import Identity
from lmstream.kafka.sasl import Sasl
from lmstream.kafka.settings import KafkaConnection

log: Final = logging.getLogger(__name__)

_DAY: Final = 86_400.0
_WARNINGS: Final = (1, 7, 30)
"""Days before the end of the certificate from which on each is worth a word of its own; one a day in any case."""
_AGAIN: Final = 5.0  # seconds to the next look after a bad one, at most: a renewal may have been met in the middle


class _Material(Struct, frozen=True):
    """What was read in one look."""

    ca: bytes | None
    identity: Identity | None


class Tls:
    """The TLS side of one client. `load` gives the context; `start` also watches for renewals until `close`.

    Connections that stand keep their certificate; each new one presents the latest. A look that finds nothing good
    (half a file, a key of another certificate, one that has expired, no answer) changes nothing.
    """

    def __init__(self, settings: KafkaConnection, *, now: Callable[[], float] = time.time) -> None:
        """Read PEM files at once (ConfigError for bad ones); a secret is read by `load`. `now` is in unix seconds."""
        self.context: ssl.SSLContext | None = None
        """The context, which stays; None in plaintext, and before `load` when the certificate is in a secret."""
        self.expiry: float | None = None
        """End of the client certificate in use, in unix seconds; None without one."""
        self.renewals = 0
        """Times that new material was taken into use."""
        self.failures = 0
        """Looks that found nothing good."""
        self.trouble: str = ""
        """Why the last look found nothing good; empty when it did."""
        self._settings, self._now = settings, now
        self._material: _Material | None = None
        self._lock = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._warned = (float("-inf"), _WARNINGS[-1] + 1)
        self._open_mode = 0
        _check(settings)
        self.sasl: Sasl = Sasl(settings)
        """User, password and tokens, where the connection has them beside TLS."""
        if self._secure and not self._in_secret:
            self._begin(self._read())

    @property
    def _secure(self) -> bool:
        return self._settings.security in {"ssl", "sasl_ssl"}

    @property
    def _in_secret(self) -> bool:
        return self._settings.cert.startswith(certificates.AWSSM)

    async def load(self) -> ssl.SSLContext | None:
        """Answer the context; None in plaintext. ConfigError when the secret cannot be had or is not good."""
        async with self._lock:
            if self._secure and self._material is None:
                self._begin(await self._fetch())
            await self.sasl.load()
        return self.context

    @property
    def options(self) -> dict[str, Any]:
        """Options of aiokafka's clients for a connection that is as safe as the settings say. After `load`."""
        protocol = self._settings.security.upper()
        return {"security_protocol": protocol, "ssl_context": self.context, **self.sasl.aiokafka()}

    async def start(self) -> None:
        """Load, and look for a renewal every `reload_seconds` from now on."""
        await self.load()
        if self.context is not None and self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())

    @property
    def material(self) -> tuple[bytes | None, Identity | None]:
        """Authorities and identity in use, for a client that makes a context of its own of them."""
        return (None, None) if self._material is None else (self._material.ca, self._material.identity)

    async def look(self) -> bool:
        """Take new material into use if there is some; whether there was. Never raises for what it finds."""
        async with self._lock:
            try:
                found = await self._fetch()
                if found == self._material:
                    self.trouble = ""
                    return False
                self._renew(found)
            except ConfigError as error:
                self.failures += 1
                if error.detail != self.trouble:
                    log.warning(
                        "the new TLS material is not usable, the old one stays in use: %s",
                        error,
                        extra=coded("config.certificate"),
                    )
                self.trouble = error.detail
                return False
            self.trouble = ""
            self.renewals += 1
            log.info("TLS material was renewed: new connections present it")
            return True

    async def close(self) -> None:
        """Stop watching. Safe to call twice."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            await end(watcher, _AGAIN)

    async def _watch(self) -> None:
        while True:
            wait = self._settings.reload_seconds
            await asyncio.sleep(min(wait, _AGAIN) if self.trouble else wait)
            try:
                await self.look()
                self._warn()
            except Exception:  # a bug must not end the renewals of a process that runs for months
                log.exception("the check for a renewed certificate failed", extra=coded("config.certificate"))

    # Reading

    async def _fetch(self) -> _Material:
        if self._in_secret:
            identity = await certificates.of_secret(self._settings)
            ca = await asyncio.to_thread(certificates.read, self._settings.ca) if self._settings.ca else None
            return _Material(ca, identity)
        return await asyncio.to_thread(self._read)  # a network volume that hangs must not stop the heartbeats

    def _read(self) -> _Material:
        settings = self._settings
        ca = certificates.read(settings.ca) if settings.ca else None
        return _Material(ca, certificates.of_files(settings) if settings.cert else None)

    # Using

    def _begin(self, found: _Material) -> None:
        self.context = self._tried(found)
        self._use(found)

    def _renew(self, found: _Material) -> None:
        self._tried(found)
        context, old = self.context, self._material
        assert context is not None and old is not None  # noqa: S101, PT018 - for the type checker: _begin came first
        if found.ca is not None and found.ca != old.ca:
            # Added to those that are trusted already: an authority that is withdrawn takes a restart.
            with certificates.as_path(found.ca) as path:
                context.load_verify_locations(path)
        if found.identity is not None and found.identity != old.identity:
            try:
                found.identity.load(context)
            except BaseException:
                # It was good a moment ago, so this is no matter of its bytes. Half loaded it would refuse to connect.
                if old.identity is not None:
                    old.identity.load(context)
                raise
        self._use(found)

    def _tried(self, found: _Material) -> ssl.SSLContext:
        """Load everything into a context of its own: a bad pair breaks the one it is loaded into."""
        scratch = context_for(found.ca, self._settings.ca)
        if found.identity is not None:
            found.identity.load(scratch)
            begin, end = found.identity.validity()
            at = found.identity.certificate_at
            if end <= self._now():
                raise ConfigError("config.certificate", f"{at}: the client certificate has expired on {_day(end)}")
            if begin > self._now():
                raise ConfigError(
                    "config.certificate", f"{at}: the client certificate is not valid before {_day(begin)}"
                )
        return scratch

    def _use(self, found: _Material) -> None:
        self._material = found
        if found.identity is None:
            return
        _, self.expiry = found.identity.validity()
        self._warned = (float("-inf"), _WARNINGS[-1] + 1)
        self._warn()
        if found.identity.open_mode and found.identity.open_mode != self._open_mode:
            log.warning(
                "%s can be read by other users (mode %04o): chmod 600, or defaultMode 0440 and fsGroup in Kubernetes",
                *(found.identity.key_at, found.identity.open_mode),
                extra=coded("config.certificate"),
            )
        self._open_mode = found.identity.open_mode

    def _warn(self) -> None:
        """Say that the certificate ends soon: when a threshold is passed, and once a day."""
        if self.expiry is None:
            return
        now = self._now()
        left = self.expiry - now
        threshold = 0 if left <= 0 else next((days for days in _WARNINGS if left < days * _DAY), None)
        if threshold is None or (threshold >= self._warned[1] and now - self._warned[0] < _DAY):
            return
        self._warned = (now, threshold)
        level = logging.WARNING if threshold > _WARNINGS[0] else logging.ERROR
        text = f"the client certificate expires in {left / _DAY:.1f} days, on {_day(self.expiry)}"
        if not threshold:
            text = f"the client certificate has expired on {_day(self.expiry)}: the brokers will reject new connections"
        log.log(level, "%s", text, extra=coded("source.tls_expired"))


def context_for(ca: bytes | None, name: str) -> ssl.SSLContext:
    """Make a client's context that trusts the authorities of this PEM text, or those of the system."""
    try:
        if ca is None:
            context = ssl.create_default_context()
        else:
            with certificates.as_path(ca) as path:
                context = ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ConfigError("config.certificate", f"{name}: no PEM certificates ({error.reason or error})") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _check(settings: KafkaConnection) -> None:
    """Refuse settings that contradict each other."""
    named = [name for name in ("ca", "cert", "key", "key_password") if getattr(settings, name)]
    if settings.security.endswith("plaintext") and named:
        safe = settings.security.replace("plaintext", "ssl")
        what = f'{", ".join(named)} set, but security is "{settings.security}": set it to "{safe}"'
        raise ConfigError("config.invalid", what)
    if settings.key and not settings.cert:
        raise ConfigError("config.invalid", "key is set without cert")
    if settings.cert.startswith(certificates.AWSSM):
        if settings.key or settings.key_password:
            raise ConfigError(
                "config.invalid", "key and key_password are in the secret that cert names: leave them out"
            )
        if settings.cert == certificates.AWSSM:
            raise ConfigError("config.invalid", "cert: awssm: without the name or ARN of a secret")


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))
