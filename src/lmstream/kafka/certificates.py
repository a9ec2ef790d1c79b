"""The client's certificate and key, from PEM files or from a secret of AWS Secrets Manager, and when they end."""

import asyncio
import contextlib
import os
import ssl
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from lmstream import bounded
from lmstream.aws.clock import CLOCK, is_clock
from lmstream.aws.threaded import client_of
from lmstream.bounded import BoundError
from lmstream.errors import ConfigError
from lmstream.kafka.settings import KafkaConnection
from lmstream.settings import MIB

T = TypeVar("T", bound=Struct)

AWSSM: Final = "awssm:"
"""What the setting `cert` begins with when it names a secret."""
_SECRET: Final = 10.0  # seconds for the service to answer, lookup of credentials included
_PEM_BYTES: Final = 16 * MIB
"""Of a PEM file; the authorities of a whole system have a quarter of a MiB."""


class Identity(Struct, frozen=True, kw_only=True):
    """PEM texts that make a client known, and names for messages. Its `repr` shows no secret."""

    certificate: bytes
    key: bytes
    password: str
    certificate_at: str
    key_at: str
    open_mode: int = 0
    """File mode of the key when others than its owner may read it, else 0."""

    def __repr__(self) -> str:
        return f"Identity({self.certificate_at})"

    def load(self, context: ssl.SSLContext) -> None:
        """Load into `context`, or raise ConfigError that says what is wrong: then `context` is of no more use."""
        asked: list[bool] = []

        def answer() -> str:
            asked.append(True)  # without a callback OpenSSL would ask on the terminal
            return self.password

        try:
            with as_path(self.certificate) as certificate, as_path(self.key) as key:
                context.load_cert_chain(certificate, key, password=answer)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError("config.certificate", self._problem(error, asked=bool(asked))) from error

    def _problem(self, error: Exception, *, asked: bool) -> str:
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            return f"{self.certificate_at} and {self.key_at} do not belong together"
        if asked and not self.password:
            return f"{self.key_at}: the key is encrypted and key_password is not set"
        if asked:
            return f"{self.key_at}: wrong key_password, or a damaged key ({reason})"
        bad = self.certificate_at
        with contextlib.suppress(ValueError):
            validity(self.certificate)
            bad = self.key_at
        return f"{bad}: not a PEM certificate and key, or only a part of one ({reason})"

    def validity(self) -> tuple[float, float]:
        """Answer from and until when (unix seconds) the client's own certificate is valid. ConfigError for none."""
        try:
            return validity(self.certificate)
        except ValueError as error:
            raise ConfigError("config.certificate", f"{self.certificate_at}: not a certificate ({error})") from error


@contextlib.contextmanager
def as_path(data: bytes) -> Iterator[str]:
    """Lend bytes to OpenSSL, which reads only files, through one that nobody else can open."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        number = os.memfd_create("pem")
        with os.fdopen(number, "wb") as out:
            out.write(data)
            out.flush()
            yield f"/proc/self/fd/{number}"
        return
    with tempfile.NamedTemporaryFile(prefix="lmstream-") as out:  # made with mode 0600
        out.write(data)
        out.flush()
        yield out.name


def of_files(settings: KafkaConnection) -> Identity:
    """Read the PEM files that the settings name. ConfigError that names the one that cannot be read."""
    key_at = settings.key or settings.cert
    mode = 0
    with contextlib.suppress(OSError):
        mode = _open_mode(Path(key_at).stat())
    return Identity(
        certificate=read(settings.cert),
        key=read(key_at),
        password=text_of(settings.key_password, "key_password"),
        certificate_at=settings.cert,
        key_at=key_at,
        open_mode=mode,
    )


def _open_mode(found: os.stat_result) -> int:
    """The mode of a key that others than who needs it may read, else 0.

    A Kubernetes volume belongs to root, and to the pod's fsGroup, through which alone this process can read it: there
    0440 is as private as a key can be. https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
    """
    mode = stat.S_IMODE(found.st_mode)
    needed = 0
    if found.st_uid != os.geteuid() and found.st_gid in {os.getegid(), *os.getgroups()}:
        needed = stat.S_IRGRP
    return mode if mode & 0o077 & ~needed else 0


def read(path: str) -> bytes:
    """Read a PEM file; ConfigError when that cannot be done."""
    try:
        with Path(path).open("rb") as file:
            return bounded.read(file, _PEM_BYTES, path)
    except BoundError as error:
        raise ConfigError("config.certificate", error.detail) from error
    except OSError as error:
        raise ConfigError("config.invalid", f"{path}: {error.strerror or error}") from error


def text_of(reference: str, setting: str) -> str:
    """Read the secret text that a setting names: `env:NAME` or `file:PATH`. ConfigError that repeats no secret."""
    kind, _, where = reference.partition(":")
    if not reference:
        return ""
    if kind == "env" and where:
        if where in os.environ:
            return os.environ[where]
        raise ConfigError("config.invalid", f"{setting}: the environment has no {where}")
    if kind == "file" and where:
        try:
            return Path(where).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("config.invalid", f"{setting}: {where} cannot be read") from error
    # The value itself is not repeated: it may be the secret.
    raise ConfigError("config.invalid", f"{setting} must be env:NAME or file:PATH")


class _Secret(Struct, rename="camel"):
    """The shape that Lambda and EventBridge Pipes want of a secret for mTLS."""

    certificate: str
    private_key: str
    private_key_password: str = ""


async def of_secret(settings: KafkaConnection) -> Identity:
    """Get the secret that the setting `cert` names. ConfigError when it cannot be had, or is no certificate and key.

    Needs secretsmanager:GetSecretValue on this secret, and kms:Decrypt on its key when that is one of your own.
    """
    found = await secret_of(settings, settings.cert, _Secret)
    return Identity(
        certificate=found.certificate.encode(),
        key=found.private_key.encode(),
        password=found.private_key_password,
        certificate_at=f"{settings.cert} certificate",
        key_at=f"{settings.cert} privateKey",
    )


async def secret_of(settings: KafkaConnection, reference: str, shape: type[T]) -> T:
    """Get a secret, `awssm:NAME`, as a JSON object of this shape. ConfigError when it cannot be had, or is none."""
    name = reference.removeprefix(AWSSM)
    try:
        async with asyncio.timeout(_SECRET):
            answer = await asyncio.to_thread(_value_of, settings, name)
    except ConfigError:
        raise
    except Exception as error:
        # What botocore raises is many classes of many modules; their texts name the cause and hold no secret.
        what = str(error) or f"no answer in {_SECRET:.0f} s"
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        raise ConfigError(
            CLOCK if is_clock(code, what) else "config.secret", f"{reference}: {type(error).__name__}: {what}"
        ) from error
    try:
        return msgspec.json.decode(answer.get("SecretString") or answer.get("SecretBinary") or "", type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # The message of a wrong type names the field; that of bad JSON the position. Neither repeats the value.
        names = ", ".join(field.encode_name for field in msgspec.structs.fields(shape))
        raise ConfigError("config.secret", f"{reference} is not a JSON object {{{names}}}: {error}") from None


def _value_of(settings: KafkaConnection, name: str) -> Mapping[str, Any]:
    arn = name.split(":")  # arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME
    region = settings.secrets_region or (arn[3] if arn[0] == "arn" and len(arn) > 3 else "")  # noqa: PLR2004 - as said
    config = {"connect_timeout": 3, "read_timeout": 5, "retries": {"total_max_attempts": 2}}
    client = client_of("secretsmanager", region, settings.secrets_endpoint_url, **config)
    with contextlib.closing(client):
        answer: Mapping[str, Any] = client.get_secret_value(SecretId=name)
    return answer


def validity(pem: bytes) -> tuple[float, float]:
    """Answer from and until when (unix seconds) the first certificate of a PEM text is valid. ValueError for none.

    The standard library says this of the other side's certificate only, and not of our own.
    """
    from cryptography import x509  # noqa: PLC0415 - only who has a certificate needs it

    found = x509.load_pem_x509_certificate(pem)
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
