"""Firehose's wire protocol for the lab: AWS JSON 1.1 requests judged by the service's limits, answers and errors."""

import uuid
from typing import Any

import msgspec
from aiohttp import web

from lmstream.lab.firehose_stream import DeliveryStream
from lmstream.settings import MIB

REGION = "us-east-1"
ACCOUNT = "000000000000"
MAX_RECORDS = 500
"""Records of one call; this and the next: docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html"""
MAX_RECORD_BYTES = 1_024_000
"""Bytes of one record before base64."""
MAX_REQUEST_BYTES = 4 * MIB
"""Bytes of the records of a request. The reference does not say whether before or after base64: the lab counts after,
which no request passes that is too large in either reading."""

_JSON = "application/x-amz-json-1.1"


class Entry(msgspec.Struct, rename="pascal"):
    """One record of a call; msgspec reads bytes from base64."""

    data: bytes | None = None


class Put(msgspec.Struct, rename="pascal"):
    """The body of every call the lab knows. All is optional here: what is missing is the service's error to name."""

    delivery_stream_name: str | None = None
    records: list[Entry | None] | None = None
    record: Entry | None = None


class RefusedError(Exception):
    """An error of the service: HTTP status, error code, message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status: int = status
        self.code: str = code
        self.message: str = message


_DECODER = msgspec.json.Decoder(Put)


def parse(body: bytes) -> Put:
    """The request in a body."""
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise RefusedError(400, "SerializationException", str(e)) from e


def batch(put: Put) -> list[bytes]:
    """The records of a PutRecordBatch call, within the limits of the service."""
    if put.records is None:
        raise RefusedError(400, "ValidationException", constraint("records", "Member must not be null"))
    if not 1 <= len(put.records) <= MAX_RECORDS:
        bound = f"less than or equal to {MAX_RECORDS}" if put.records else "greater than or equal to 1"
        raise RefusedError(400, "ValidationException", constraint("records", f"Member must have length {bound}"))
    records = [data_of(entry, f"records.{n}.member") for n, entry in enumerate(put.records, 1)]
    if sum(-(-len(data) // 3) * 4 for data in records) > MAX_REQUEST_BYTES:
        raise RefusedError(400, "InvalidArgumentException", "Records size exceeds 4 MB limit")
    return records


def data_of(entry: Entry | None, where: str) -> bytes:
    """The bytes of a record, within the limit of the service."""
    if entry is None or entry.data is None:
        raise RefusedError(400, "ValidationException", constraint(f"{where}.data", "Member must not be null"))
    if len(entry.data) > MAX_RECORD_BYTES:
        bound = f"Member must have length less than or equal to {MAX_RECORD_BYTES}"
        raise RefusedError(400, "ValidationException", constraint(f"{where}.data", bound))
    return entry.data


def constraint(where: str, what: str) -> str:
    """A message in the words of the service's validation."""
    return f"1 validation error detected: Value at '{where}' failed to satisfy constraint: {what}"


def reply(answer: dict[str, Any], status: int = 200) -> web.Response:
    """An answer in AWS JSON 1.1."""
    headers = {"x-amzn-RequestId": str(uuid.uuid4()), "Content-Type": _JSON}
    return web.Response(body=msgspec.json.encode(answer), status=status, headers=headers)


def describe(stream: DeliveryStream) -> dict[str, Any]:
    """A DeliveryStreamDescription."""
    name = stream.config.name
    return {
        "DeliveryStreamName": name,
        "DeliveryStreamARN": f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/{name}",
        "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamType": stream.config.type,
        "VersionId": "1",
        "CreateTimestamp": stream.created,
        "Destinations": [
            {
                "DestinationId": "destinationId-000000000001",
                "ExtendedS3DestinationDescription": stream.config.describe(),
            }
        ],
        "HasMoreDestinations": False,
    }
