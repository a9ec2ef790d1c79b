"""What DescribeDeliveryStream says of a stream, as far as rows depend on it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

USUAL_SECONDS = 300
"""IntervalInSeconds where none is said: docs.aws.amazon.com/firehose/latest/APIReference/API_BufferingHints.html."""


class StreamFacts(NamedTuple):
    """One delivery stream into S3."""

    bucket: str
    prefix: str
    query: str
    """The jq query of its partition keys; empty: no dynamic partitioning."""
    records: str
    """How records are taken apart: JSON; `none`: not at all."""
    delimiter: str
    """What is put behind each row, as the service writes it; `none`: nothing."""
    seconds: int
    """How long a row may be buffered."""


def stream_facts(described: Mapping[str, Any]) -> StreamFacts | None:
    """Read the description of a stream; None of one that does not write to S3."""
    found = [each.get("ExtendedS3DestinationDescription", {}) for each in described.get("Destinations", ())]
    if not found or not (to := found[0]):
        return None
    parameters = {
        each["ParameterName"]: each["ParameterValue"]
        for one in to.get("ProcessingConfiguration", {}).get("Processors", ())
        for each in one.get("Parameters", ())
    }
    return StreamFacts(
        bucket=str(to.get("BucketARN", "")).rpartition(":")[2],
        prefix=to.get("Prefix", ""),
        query=parameters.get("MetadataExtractionQuery", ""),
        records=parameters.get("SubRecordType", "none"),
        delimiter=parameters.get("Delimiter", "none"),
        seconds=int(to.get("BufferingHints", {}).get("IntervalInSeconds", USUAL_SECONDS)),
    )
