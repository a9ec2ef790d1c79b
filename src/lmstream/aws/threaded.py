"""Clients of botocore for an event loop: their calls in threads, their answers bounded, their own retries off.

botocore and not aioboto3 for whatever Lambda needs too: its runtime brings the one, and the other would make the zip
eight times as large.
"""

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from lmstream.aws.answers import bound
from lmstream.errors import ConfigError

_CHECKSUMS: Final = ("request_checksum_calculation", "response_checksum_validation")


def client_of(service: str, region: str | None, endpoint_url: str | None, keys: Any = (), **config: Any) -> Any:
    """Make a client of botocore; `keys` are of credentials, by name, where they are not those of the usual chain.
    ConfigError config.extra without the SDK."""
    try:
        # Only when a call is to be made, and the runtime's own: 130 ms. What boto3 puts around it is not used here, and
        # another 30 ms.
        from botocore.config import Config  # noqa: PLC0415 - as said
        from botocore.session import Session  # noqa: PLC0415 - as said

        from lmstream.aws.descriptions import loader  # noqa: PLC0415 - as said
    except ImportError as error:
        raise ConfigError.missing(service, "consumer") from error
    # A session of its own: the module's keeps the credentials that it found first.
    session = Session()
    session.register_component("data_loader", loader(session.get_config_variable("data_path")))
    where = {"region_name": region or None, "endpoint_url": endpoint_url or None}
    return bound(session.create_client(service, config=Config(**config), **where, **dict(keys)))


class Client:
    """Every call of one service, to be awaited: `await client.put_object(...)`. The SDK's client is made at the first
    one: a cold start that meets no bad record never loads S3."""

    def __init__(self, service: str, settings: Any, keys: Mapping[str, str] | None = None, **config: Any) -> None:
        """`settings` are OnAws; `keys` are as of `client_of`; `config` is botocore's, beside what the settings say."""
        self._service, self._settings, self._keys, self._config = service, settings, keys or {}, config
        self._client: Any = None
        self._making = asyncio.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def __getattr__(self, name: str) -> Any:
        """A call of the service by boto3's name."""
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self.call, name)

    async def made(self) -> Any:
        """The client, made at the first call."""
        async with self._making:
            if self._client is None:
                self._client = await self.run(self._make)
        return self._client

    async def call(self, name: str, after: Callable[[Any], Any] | None = None, /, **request: Any) -> Any:
        """Make a call, and answer what `after` makes of its answer in the thread."""
        call = partial(getattr(await self.made(), name), **request)
        return await self.run(call if after is None else lambda: after(call()))

    async def run(self, call: Callable[[], Any]) -> Any:
        """Call this in a thread. A caller that gives up leaves the thread to the client's own timeouts."""
        self._pool = self._pool or ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="lmstream-aws")
        context = contextvars.copy_context()  # the body of a request is handed over in it
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(context.run, call))

    def close(self) -> None:
        """Close the client, which the next call makes again; a call that hangs is left to its timeout."""
        (pool, self._pool), (client, self._client) = (self._pool, None), (self._client, None)
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        if client is not None:
            client.close()

    def _make(self) -> Any:
        settings, config = self._settings, dict(self._config)
        if self._service == "s3":
            # Not every store knows the checksums that AWS prefers; Content-MD5 is known to all.
            config |= dict.fromkeys(_CHECKSUMS, "when_required")
            config["s3"] = {"addressing_style": "path"} if settings.endpoint_url else None
        return client_of(
            self._service,
            settings.region,
            settings.endpoint_url,
            self._keys,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            max_pool_connections=settings.concurrency + 2,
            retries={"total_max_attempts": 1},  # who retries is delivery, and nobody else
            tcp_keepalive=True,
            **config,
        )
