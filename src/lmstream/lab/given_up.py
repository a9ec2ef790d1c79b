"""The document that Lambda writes into a bucket for a batch that a mapping gave up.

Shape and words: docs.aws.amazon.com/lambda/latest/dg/kafka-on-failure.html, S3 destination. The page names no object
key for Kafka; this one is Kinesis's (kinesis-on-failure-destination.html), with topic and partition for the shard.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

FUNCTION: Final = "arn:aws:lambda:us-west-2:000000000000:function:lmstream"
_MAPPING: Final = "00000000-0000-0000-0000-000000000000"


def document(event: Mapping[str, Any], invocations: int, error: str) -> bytes:
    """The document: `event` as it was sent, how often, and the error of the function, if it had one."""
    text = json.dumps(event)
    records: Mapping[str, Sequence[Mapping[str, Any]]] = event["records"]
    return json.dumps(
        {
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "functionArn": FUNCTION,
                "condition": "RetryAttemptsExhausted",
                "approximateInvokeCount": invocations,
            },
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled" if error else None,
            },
            "version": "1.0",
            "timestamp": _time(datetime.now(UTC).timestamp() * 1000),
            "KafkaBatchInfo": {
                "batchSize": sum(map(len, records.values())),
                "eventSourceArn": event["eventSourceArn"],
                "bootstrapServers": event["bootstrapServers"],
                "payloadSize": len(text),
                "recordsInfo": {
                    where: {
                        "firstRecordOffset": str(entries[0]["offset"]),
                        "lastRecordOffset": str(entries[-1]["offset"]),
                        "firstRecordTimestamp": _time(entries[0]["timestamp"]),
                        "lastRecordTimestamp": _time(entries[-1]["timestamp"]),
                    }
                    for where, entries in records.items()
                },
            },
            "payload": text,
        }
    ).encode()


def key(event: Mapping[str, Any]) -> str:
    """Key of the object: its end does not say what it holds."""
    now, where = datetime.now(UTC), next(iter(event["records"]))
    return f"aws/lambda/{_MAPPING}/{where}/{now:%Y/%m/%d}/{now:%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"


def _time(millis: float) -> str:
    moment = datetime.fromtimestamp(millis / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
