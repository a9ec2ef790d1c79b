"""The client that writes objects of a bucket: obstore, with the SDK's credentials, place and trusted certificates."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from lmstream.errors import ConfigError
from lmstream.storage.bucket import Access

_FRESH: Final = timedelta(minutes=10)
"""How long obstore is told that credentials last: it asks again 5 minutes before (measured), so every 5 minutes. The
SDK never hands out any that end within 10 minutes, if it can help it (botocore.credentials), so what is used is valid.
"""
_IDLE: Final = "15s"
"""A connection that waited longer is not used again: S3 closes idle ones, and a PUT that meets that has an unknown
outcome."""
_WHOLE: Final = "300s"
"""For one request in all. Below the 15 minutes of a signature, docs.aws.amazon.com/AmazonS3/latest/API/
sig-v4-authenticating-requests.html, so that none arrives after they are over."""
_ANYWHERE: Final = "us-east-1"
"""Region of signatures for a store at an endpoint of its own, where none is set."""


async def opened(settings: Access, sdk: Any) -> tuple[Any, Any]:
    """Obstore's put_async, and its store for a bucket; `sdk` is the `meta` of boto3's client. Raises ConfigError.

    A refusal's body is read whole, whatever its size: obstore has no bound, only _WHOLE.
    """
    try:
        from obstore import put_async
        from obstore.store import S3Store
    except ImportError as error:
        raise ConfigError.missing("a lake in S3", "lake", package=error.name) from error
    try:
        trusted = await asyncio.to_thread(_trusted)
    except OSError as error:
        raise ConfigError("config.invalid", f"ca_bundle of AWS (AWS_CA_BUNDLE): {error}") from error
    options = {
        "allow_http": str(sdk.endpoint_url).startswith("http:"),
        "connect_timeout": f"{settings.connect_timeout:f}s",
        "read_timeout": f"{settings.read_timeout:f}s",
        "timeout": _WHOLE,
        "pool_idle_timeout": _IDLE,
        "pool_max_idle_per_host": str(settings.concurrency),
    }
    if trusted:
        options["root_certificate"] = trusted
    make: Any = S3Store  # its types name every setting, and ours come from a table
    return put_async, make(
        settings.bucket,
        config=place_of(settings, sdk.endpoint_url, sdk.region_name),
        client_options=options,
        retry_config={"max_retries": 0},
        credential_provider=Keys(),
    )


def _trusted() -> bytes:
    """Certificates that the SDK is told to trust, as those of a proxy; empty when it is not. Raises OSError."""
    from botocore.session import Session

    path = Session().get_config_variable("ca_bundle")
    return Path(path).read_bytes() if path else b""


def place_of(settings: Access, endpoint: str, region: str | None) -> Mapping[str, Any]:
    """The configuration of obstore for a bucket at the SDK's endpoint. Every line that a variable of the environment
    could set otherwise is here: obstore prefers AWS_ENDPOINT_URL_S3 to the endpoint that it is given.

    Raises ConfigError when no region is known.
    """
    if region in {None, "", "aws-global"}:
        if not settings.endpoint_url:
            raise ConfigError(
                "config.invalid", "sink.region is not set, and the environment names none", "set sink.region"
            )
        region = _ANYWHERE
    scheme, _, host = endpoint.partition("://")
    by_path = bool(settings.endpoint_url) or "." in settings.bucket
    url = endpoint if by_path else f"{scheme}://{settings.bucket}.{host}"
    where = {
        "aws_endpoint_url_s3": url.rstrip("/"),
        "endpoint": url.rstrip("/"),
        "region": region,
        "virtual_hosted_style_request": not by_path,
        "skip_signature": False,
        "unsigned_payload": False,
        "conditional_put": "etag",
        "request_payer": False,
        "s3_express": False,
    }
    # With a checksum S3 keeps one beside the object, and takes it where Object Lock is on; not every other store knows
    # the header. What is sent is safe without: the signature covers the bytes.
    return where if settings.endpoint_url else {**where, "checksum_algorithm": "SHA256"}


class Keys:
    """Credentials of the SDK's usual chain, for obstore: profile, SSO, web identity, container, instance."""

    def __init__(self) -> None:
        self._found: Any = None

    async def __call__(self) -> Mapping[str, Any]:
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> Mapping[str, Any]:
        from botocore.exceptions import NoCredentialsError
        from botocore.session import Session

        if self._found is None:
            self._found = Session().get_credentials()
        if self._found is None:
            raise NoCredentialsError
        keys = self._found.get_frozen_credentials()  # renews what ends soon
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + _FRESH,
        }
