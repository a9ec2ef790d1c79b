"""Put packs into an Amazon Data Firehose delivery stream, one PutRecordBatch a write, and read its answer closely."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Protocol

from msgspec import Meta, Struct

from lmstream.abilities import Traits
from lmstream.aws.asking import BUSY, asked, is_busy
from lmstream.aws.clock import CLOCK
from lmstream.aws.credentials import REASON, UNUSABLE
from lmstream.delivery.retry import unknown_outcome
from lmstream.errors import ConfigError, LmstreamError, SinkError
from lmstream.interfaces import Limits
from lmstream.model import NOT_TRIED, Failure, Kind, Pack
from lmstream.settings import KIB, MIB
from lmstream.sinks._firehose_errors import classify, failure_of, refusal

# Limits of the service: https://docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html
# and https://docs.aws.amazon.com/firehose/latest/dev/limits.html
LIMITS: Final = Limits(
    pack_bytes=1000 * KIB,  # a record before base64; KiB, not a MiB: 24 KiB less than it looks
    pack_rows=500,  # sub-records that RecordDeAggregation takes from one record
    request_packs=500,
    # "4 MiB for the entire request", with no word on base64: counted in base64 it holds under either reading.
    request_bytes=4 * MIB,
    base64=True,
    partitions=True,  # 500 active ones of a stream: https://docs.aws.amazon.com/firehose/latest/dev/limits.html
)
TRAITS: Final = Traits(service="firehose", dimensions=True, partitions=True)

DIRECT_PUT: Final = "DirectPut"
"""The DeliveryStreamType that "provider applications access directly"; streams with a source of their own refuse
PutRecordBatch (docs.aws.amazon.com/firehose/latest/APIReference/API_CreateDeliveryStream.html)."""

_R, _F = Kind.RETRYABLE, Kind.FATAL_CONFIG

_UNPLACED: Final = frozenset({"NoRegionError", "InvalidRegionError"})


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the Firehose sink. Credentials come from the usual AWS chain, never from here."""

    stream: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.-]+$")]
    """Name of the delivery stream.
    Costs: rows: they land where the other stream puts them. `validate --connect` compares its prefix and jq query.
    Limit: names of streams (docs.aws.amazon.com/firehose/latest/APIReference/API_CreateDeliveryStream.html)."""
    region: str = ""
    """AWS region; empty takes that of the environment.
    Costs: money: traffic between regions is billed."""
    endpoint_url: str = ""
    """Another endpoint: a VPC endpoint, or a local Firehose.
    Costs: nothing."""
    concurrency: Annotated[int, Meta(ge=1, le=256)] = 8
    """Requests at a time: size of the connection pool. Requests that wait in the pool age their signature (5 min).
    Unit: requests.
    Costs: memory: keep it at `delivery.concurrency` or above.
    Limit: lmstream's own, as `delivery.concurrency`."""
    connect_timeout: Annotated[float, Meta(gt=0)] = 3.0
    """Seconds to connect.
    Costs: delay."""
    read_timeout: Annotated[float, Meta(gt=0)] = 15.0
    """Seconds without a byte of the answer; the service's own p99 is well below one.
    Costs: duplicates: a request that is cut off is sent again, and may have been taken."""
    call_timeout: Annotated[float, Meta(gt=0)] = 20.0
    """Seconds for a whole call, name lookup and credentials included.
    Costs: duplicates: as `read_timeout`."""


class Client(Protocol):
    """The two calls of the service that the sink makes; aioboto3's client, or whatever a host has instead."""

    async def put_record_batch(self, **request: Any) -> Mapping[str, Any]: ...

    async def describe_delivery_stream(self, **request: Any) -> Mapping[str, Any]: ...


class Firehose:
    """Sink of one delivery stream. Delivered means: the service gave the pack's record an id.

    SDK retries are off: they would repeat packs whose outcome is unknown without telling, and hide throttling.
    """

    limits = LIMITS

    def __init__(self, settings: Settings, *, client: Client | None = None) -> None:
        """`client` is used as it is and stays the caller's to close; without one, aioboto3's is made when needed."""
        self._settings = settings
        self._client = client
        self._stack = contextlib.AsyncExitStack()
        self._connecting = asyncio.Lock()

    async def write(self, packs: Sequence[Pack], /) -> Sequence[Failure | None]:
        """Make one PutRecordBatch.

        An error of the whole request is permanent only when it had one pack; with several packs it is retryable with
        the same code, and the caller finds the bad one by sending them apart. One whose words are not about the data is
        unsure: the caller takes it for the stream's until another pack is taken.
        """
        if not packs:
            return []
        request = [{"Data": pack.data} for pack in packs]
        try:
            client = await self._connected()
            async with asyncio.timeout(self._settings.call_timeout):
                answer = await client.put_record_batch(DeliveryStreamName=self._settings.stream, Records=request)
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a call raises is a verdict; the table names what is known
            failure = failure_of(error)
            if failure.kind is Kind.PERMANENT and len(packs) > 1:
                failure = Failure(_R, failure.code, failure.message, apart=True)
            return [failure] * len(packs)
        return judge(answer, len(packs))

    async def describe(self) -> Mapping[str, Any]:
        """Ask the service about the stream, before a start; again while it is busy.

        Raises SinkError `sink.missing`, `sink.refused`, `sink.denied`, `sink.busy` or `sink.unreachable`, and
        ConfigError `place.credentials` for credentials that count for nothing. Denied and busy prove nothing: a role
        that may only put can deliver all the same, and a service that is busy is there. A host takes both as a warning.
        """
        return await asked(self._describe)

    async def _describe(self) -> Mapping[str, Any]:
        settings = self._settings
        place = f"{settings.stream!r} at {settings.endpoint_url or settings.region or 'the default region'}"
        try:
            client = await self._connected()
            async with asyncio.timeout(settings.call_timeout):
                answer = await client.describe_delivery_stream(DeliveryStreamName=settings.stream)
            described = answer["DeliveryStreamDescription"]
            status = described.get("DeliveryStreamStatus", "ACTIVE")
        except ConfigError:
            raise
        except Exception as error:
            raise _undescribed(error, place, settings.region) from error
        if status != "ACTIVE":
            raise SinkError("sink.missing", f"{place} is {status}, not ACTIVE")
        kind = described.get("DeliveryStreamType", DIRECT_PUT)
        if kind != DIRECT_PUT:
            raise SinkError("sink.refused", f"{place} is of type {kind}, and only a {DIRECT_PUT} stream takes rows")
        return dict(described)

    async def close(self) -> None:
        """Close the client if it is ours."""
        async with self._connecting:
            await self._stack.aclose()
            self._client = None

    async def _connected(self) -> Client:
        async with self._connecting:
            client = self._client
            if client is None:
                opened: Client = await self._stack.enter_async_context(self._open())
                client = self._client = opened
            return client

    def _open(self) -> Any:
        try:
            from lmstream.sinks import _firehose_client  # noqa: PLC0415 - Lambda has no aioboto3: it passes a client
        except ImportError as error:
            raise ConfigError.missing("the firehose sink", "consumer") from error
        settings = self._settings
        return _firehose_client.opened(
            region=settings.region,
            endpoint_url=settings.endpoint_url,
            config={
                "connect_timeout": settings.connect_timeout,
                "read_timeout": settings.read_timeout,
                "max_pool_connections": settings.concurrency + 2,
                "retries": {"total_max_attempts": 1},
                "tcp_keepalive": True,
                "parameter_validation": False,  # costs CPU a record and knows none of the limits that matter
            },
        )


def _undescribed(error: Exception, place: str, region: str) -> LmstreamError:
    """What it means that the service does not tell about the stream."""
    failure = failure_of(error)
    said = f"{place}: {failure.code}: {failure.message}"
    if failure.code in _UNPLACED:
        return ConfigError("config.invalid", f"sink.region {region!r}: {failure.message}")
    if failure.code == CLOCK:
        return SinkError(CLOCK, f"{place}: {failure.message}")
    if failure.code in UNUSABLE:
        return ConfigError(REASON, said)
    if failure.code == "ResourceNotFoundException":
        return SinkError("sink.missing", said)
    if failure.kind is _F and hasattr(error, "response"):
        return SinkError("sink.denied", said)
    return SinkError(BUSY if is_busy(error) else "sink.unreachable", said)


def judge(answer: object, packs: int) -> list[Failure | None]:
    """Read the verdicts from the answer of a PutRecordBatch of `packs` records.

    A 200 alone says nothing: botocore reads a proxy's HTML page as an empty success. It counts only when
    FailedPutCount is an int, the answers are as many as the records, and each has either RecordId or ErrorCode.
    """
    if not isinstance(answer, Mapping):
        return _unknown("no mapping", packs)
    failed, answers = answer.get("FailedPutCount"), answer.get("RequestResponses")
    if not isinstance(failed, int) or isinstance(failed, bool):
        return _unknown("no FailedPutCount", packs)
    if not isinstance(answers, Sequence) or len(answers) != packs:
        return _unknown("not as many answers as records", packs)
    verdicts: list[Failure | None] = [NOT_TRIED] * packs
    for index, one in enumerate(answers):
        verdicts[index] = _verdict(one)
    if failed > sum(verdict is not None for verdict in verdicts):
        # More failed than entries say so: which ones is unknown, so none counts as delivered.
        lost = _unknown("FailedPutCount is higher than the errors named", 1)
        verdicts = [verdict or lost[0] for verdict in verdicts]
    return verdicts


def _verdict(one: object) -> Failure | None:
    if not isinstance(one, Mapping):
        return _unknown("an answer that is no mapping", 1)[0]
    record_id, code = one.get("RecordId"), one.get("ErrorCode")
    if isinstance(record_id, str) and record_id and not code:
        return None
    if isinstance(code, str) and code and not record_id:
        return refusal(classify(code), code, str(one.get("ErrorMessage", "")))
    return _unknown("an answer with neither or both of RecordId and ErrorCode", 1)[0]


def _unknown(what: str, packs: int) -> list[Failure | None]:
    return [unknown_outcome(f"the answer to PutRecordBatch is not the service's: {what}")] * packs


make = Firehose
