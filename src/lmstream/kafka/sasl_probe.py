"""Make ourselves known at a broker before a client starts, and say what it answers: clients only say "unable"."""

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from lmstream.errors import SourceError
from lmstream.kafka.connection_probe import any_of
from lmstream.kafka.tls import Tls

_SECONDS: Final = 5.0  # for one broker to answer


async def probe_sasl_any(found: Sequence[tuple[str, int]], tls: Tls) -> None:
    """Go through SASL, if there is any, with the first broker that answers.

    Raises SourceError `source.sasl` in the broker's own words.
    """
    if tls.sasl.used:
        await any_of(found, lambda host, port: probe_sasl(host, port, tls))


async def probe_sasl(host: str, port: int, tls: Tls) -> None:
    """Go through SASL with one broker. Raises SourceError."""
    place, mechanism = f"{host}:{port}", tls.sasl.mechanism
    try:
        async with asyncio.timeout(_SECONDS):
            connection = await create_conn(host, port, client_id="lmstream", **tls.options)
            try:
                await _accepted(connection.send(MetadataRequest([])), place, mechanism)
            finally:
                await connection.close()  # TLS ends with a word of the broker: a loop that ends before leaves a socket
    except UnsupportedSaslMechanismError as error:
        raise SourceError("source.sasl", f"{place} does not accept {mechanism}: {_words(error)}") from error
    except (SaslAuthenticationFailed, ValueError) as error:
        # ValueError: a broker whose own proof is not that of the password (RFC 5802), or an answer of another kind.
        raise SourceError("source.sasl", f"{place} refused {mechanism}: {_words(error)}") from error
    except (KafkaError, OSError) as error:
        # Brokers of before the errors had names just close the connection.
        raise SourceError("source.sasl", f"{place}: no answer to {mechanism}: {_words(error)}") from error
    except TimeoutError as error:
        raise SourceError("source.unreachable", f"{place}: no answer to {mechanism} in {_SECONDS:.0f} s") from error


async def _accepted(answer: Awaitable[Any], place: str, mechanism: str) -> None:
    """Raise SourceError when the first request after SASL is refused, or names no broker.

    A broker refuses a token without an error code: the reason is a challenge (RFC 7628, 3.2.2: {"status":
    "invalid_token"}), which aiokafka does not read. Apache Kafka 4.4 then answers with nothing in it, others close.
    """
    with contextlib.suppress(KafkaConnectionError):
        if (await answer).brokers:
            return
    why = "it accepts no request after SASL: the token has expired, or the broker does not trust its signer"
    raise SourceError("source.sasl", f"{place} refused {mechanism}: {why}")


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
