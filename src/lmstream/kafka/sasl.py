"""SASL of a Kafka client: user and password (SCRAM, PLAIN), or tokens of a file, an OAuth server or MSK IAM."""

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from msgspec import Struct

from lmstream.errors import ConfigError, LmstreamError, SourceError
from lmstream.kafka import _msk_iam as msk_iam
from lmstream.kafka import _oauth as oauth
from lmstream.kafka import certificates
from lmstream.kafka.certificates import AWSSM
from lmstream.kafka.settings import KafkaConnection, addresses

IAM: Final = "AWS_MSK_IAM"
_USERS: Final = frozenset({"SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"})
_OF_USERS: Final = ("sasl_username", "sasl_password")
_OF_TOKENS: Final = ("oauth_token", "oauth_url", "oauth_client_id", "oauth_client_secret", "oauth_scope")
_EARLY: Final = 0.8  # of a token's life, after which another one is asked for
_SECONDS: Final = 20.0  # for a token, the look-up of credentials included
_STEP: Final = 300.0  # seconds after which a token that says nothing of its end is read anew


class _User(Struct):
    """What MSK wants of a secret for SCRAM: docs.aws.amazon.com/msk/latest/developerguide/msk-password.html."""

    username: str
    password: str


class Sasl:
    """What makes one client known by SASL. `load` reads it; tokens are fetched before the last one ends."""

    def __init__(self, settings: KafkaConnection) -> None:
        """Raises ConfigError for settings that contradict each other, or lack something."""
        self._settings = settings
        self._user = _User("", "")
        self._token, self._until, self._made = "", 0.0, 0.0
        self._asking: asyncio.Lock | None = None
        self._session: Any = None
        _check(settings)

    @property
    def used(self) -> bool:
        """Whether the connection has SASL at all."""
        return self._settings.security.startswith("sasl_")

    @property
    def mechanism(self) -> str:
        """Its name on the wire: IAM's tokens travel as OAUTHBEARER."""
        return "OAUTHBEARER" if self._settings.sasl_mechanism == IAM else self._settings.sasl_mechanism

    @property
    def name(self) -> str:
        """Its name in the settings."""
        return self._settings.sasl_mechanism

    async def load(self) -> None:
        """Read user and password, or a token, anew. Raises ConfigError or SourceError that say what is wrong."""
        if not self.used:
            return
        if self.mechanism == "OAUTHBEARER":
            await self.token()
            return
        settings = self._settings
        if settings.sasl_password.startswith(AWSSM):
            self._user = await self._secret()
        else:
            self._user = _User(settings.sasl_username, certificates.text_of(settings.sasl_password, "sasl_password"))

    async def _secret(self) -> _User:
        found = await certificates.secret_of(self._settings, self._settings.sasl_password, _User)
        return _User(self._settings.sasl_username or found.username, found.password)

    async def token(self) -> tuple[str, float]:
        """A token that is not about to end, and its end in unix seconds. Raises ConfigError or SourceError."""
        self._asking = self._asking or asyncio.Lock()
        async with self._asking:
            now = time.time()
            if not self._token or now >= self._made + _EARLY * (self._until - self._made):
                try:
                    async with asyncio.timeout(_SECONDS):
                        self._token, self._until = await self._fresh()
                except TimeoutError as error:
                    raise SourceError("source.sasl", f"no token in {_SECONDS:.0f} s") from error
                self._made = now
            return self._token, self._until

    async def _fresh(self) -> tuple[str, float]:
        settings = self._settings
        if settings.sasl_mechanism == IAM:
            return await self._signed()
        if settings.oauth_url:
            secret = certificates.text_of(settings.oauth_client_secret, "oauth_client_secret")
            return await oauth.asked(settings.oauth_url, settings.oauth_client_id, secret, settings.oauth_scope)
        token = (await asyncio.to_thread(certificates.text_of, settings.oauth_token, "oauth_token")).strip()
        if not token.isascii() or not token.isprintable() or not token:
            raise ConfigError("config.secret", f"oauth_token: {settings.oauth_token} holds no token")
        return token, _end_of(token)

    async def _signed(self) -> tuple[str, float]:
        try:
            from aiobotocore.session import AioSession  # noqa: PLC0415 - only who uses MSK IAM needs it
        except ImportError as error:
            raise ConfigError.missing("MSK IAM", "consumer") from error
        self._session = self._session or AioSession()
        try:
            found = await self._session.get_credentials()
            frozen = None if found is None else await found.get_frozen_credentials()
        except Exception as error:
            # Many classes of many modules; their texts name the provider and hold no secret.
            raise SourceError("source.sasl", f"AWS credentials: {type(error).__name__}: {error}") from error
        if frozen is None or not frozen.access_key:
            what = "no AWS credentials: none in environment, profile, task role, IRSA or instance role"
            raise ConfigError("config.secret", what)
        hosts = [host for host, _ in addresses(self._settings.bootstrap)]
        made = time.time()
        token = msk_iam.signed(frozen, msk_iam.region_of(self._settings.aws_region, hosts))
        return token, made + msk_iam.SECONDS

    # For the clients

    def aiokafka(self) -> dict[str, Any]:
        """Options of aiokafka's clients."""
        if not self.used:
            return {}
        if self.mechanism == "OAUTHBEARER":
            return {"sasl_mechanism": self.mechanism, "sasl_oauth_token_provider": provider_of(self)}
        return {
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self._user.username,
            "sasl_plain_password": self._user.password,
        }

    def librdkafka(self) -> dict[str, Any]:
        """Options of librdkafka's clients, without security.protocol."""
        if not self.used:
            return {}
        if self.mechanism == "OAUTHBEARER":
            return {"sasl.mechanism": self.mechanism, "oauth_cb": _callback(self._settings)}
        return {
            "sasl.mechanism": self.mechanism,
            "sasl.username": self._user.username,
            "sasl.password": self._user.password,
        }


def provider_of(sasl: Sasl) -> Any:
    """The tokens as aiokafka asks for them: at each new connection."""
    from aiokafka.abc import AbstractTokenProvider  # noqa: PLC0415 - not everybody who reads settings has it

    class Provider(AbstractTokenProvider):  # type: ignore[misc] # aiokafka is untyped
        async def token(self) -> str:
            try:
                return (await sasl.token())[0]
            except LmstreamError as error:
                # What is no OSError or KafkaError would end the client's background task permanently.
                raise ConnectionError(str(error)) from error

    return Provider()


def _callback(settings: KafkaConnection) -> Callable[[str], tuple[str, float]]:
    """The tokens as librdkafka asks for them: in a thread of its own, before the last one ends."""

    def token(_config: str) -> tuple[str, float]:
        # A loop of its own: this thread may be the one of our loop, which would wait for itself.
        with ThreadPoolExecutor(1) as alone:
            return alone.submit(lambda: asyncio.run(Sasl(settings).token())).result()

    return token


def _end_of(token: str) -> float:
    """When a token of a file ends: its claim `exp`, when it is a JWT (RFC 7519) that has one."""
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, RecursionError, binascii.Error):
        return time.time() + _STEP


def _check(settings: KafkaConnection) -> None:
    given = [name for name in (*_OF_USERS, *_OF_TOKENS, "sasl_mechanism") if getattr(settings, name)]
    if not settings.security.startswith("sasl_"):
        if given:
            what = f'{", ".join(given)} set, but security is "{settings.security}": set it to "sasl_ssl"'
            raise ConfigError("config.invalid", what)
        return
    mechanism = settings.sasl_mechanism
    if not mechanism:
        raise ConfigError(
            "config.invalid", "sasl_mechanism is not set: SCRAM-SHA-512 for MSK with passwords, or others"
        )
    alien = [each for each in given if each in (_OF_TOKENS if mechanism in _USERS else _OF_USERS)]
    if mechanism == IAM:
        alien = [each for each in given if each != "sasl_mechanism"]
    if alien:
        raise ConfigError("config.invalid", f"{', '.join(alien)} set, which {mechanism} does not use")
    if mechanism in _USERS:
        _check_user(settings)
    elif mechanism == IAM:
        msk_iam.region_of(settings.aws_region, [host for host, _ in addresses(settings.bootstrap)])
    else:
        _check_oauth(settings)
    if settings.security == "sasl_plaintext" and not mechanism.startswith("SCRAM"):
        what = f'{mechanism} over "sasl_plaintext" would send its secret unencrypted: set security to "sasl_ssl"'
        raise ConfigError("config.invalid", what)


def _check_user(settings: KafkaConnection) -> None:
    if not settings.sasl_password:
        raise ConfigError("config.invalid", "sasl_password is not set: env:NAME, file:PATH, or awssm:NAME of a secret")
    if not settings.sasl_username and not settings.sasl_password.startswith(AWSSM):
        raise ConfigError("config.invalid", "sasl_username is not set")
    if settings.sasl_password.partition(":")[0] not in {"env", "file", "awssm"}:
        # The value itself is not repeated: it may be the secret.
        raise ConfigError("config.invalid", "sasl_password must be env:NAME, file:PATH or awssm:NAME")


def _check_oauth(settings: KafkaConnection) -> None:
    if bool(settings.oauth_token) == bool(settings.oauth_url):
        raise ConfigError("config.invalid", "OAUTHBEARER needs oauth_token, or else oauth_url with oauth_client_id")
    if settings.oauth_url:
        oauth.checked(settings.oauth_url)
        missing = [name for name in ("oauth_client_id", "oauth_client_secret") if not getattr(settings, name)]
        if missing:
            raise ConfigError("config.invalid", f"{', '.join(missing)} is not set, and oauth_url is")
    else:
        more = [name for name in ("oauth_client_id", "oauth_client_secret", "oauth_scope") if getattr(settings, name)]
        if more:
            raise ConfigError("config.invalid", f"{', '.join(more)} set without oauth_url")
