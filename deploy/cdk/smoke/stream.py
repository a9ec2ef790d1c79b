"""The delivery stream of a template, as the lab's Firehose takes it."""

from typing import Any

from lmstream.errors import ConfigError
from lmstream.lab import StreamConfig
from lmstream.settings import MIB


def stream_of(properties: dict[str, Any], **changes: Any) -> StreamConfig:
    """Build the stream of an AWS::KinesisFirehose::DeliveryStream in a CloudFormation template, from its Properties.
    Raises ConfigError for one that the service would refuse.
    """
    to = properties["ExtendedS3DestinationConfiguration"]
    processing = to.get("ProcessingConfiguration", {})
    found: dict[str, dict[str, str]] = {}
    for each in processing.get("Processors", ()) if processing.get("Enabled") else ():
        found[each["Type"]] = {p["ParameterName"]: p["ParameterValue"] for p in each.get("Parameters", ())}
    dynamic = to.get("DynamicPartitioningConfiguration", {}).get("Enabled", False)
    query = found.get("MetadataExtraction", {}).get("MetadataExtractionQuery", "")
    if dynamic != bool(query):
        what = "dynamic partitioning and a MetadataExtraction processor need each other"
        raise ConfigError("config.invalid", f"delivery stream: {what}")
    given: dict[str, Any] = {
        "name": properties["DeliveryStreamName"],
        "type": properties.get("DeliveryStreamType", "DirectPut"),
        "prefix": to["Prefix"],
        "error_prefix": to["ErrorOutputPrefix"],
        "query": query,
        "deaggregate": found.get("RecordDeAggregation", {}).get("SubRecordType") == "JSON",
        "delimiter": "AppendDelimiterToRecord" in found,
        "buffer_bytes": to["BufferingHints"]["SizeInMBs"] * MIB,
        "buffer_seconds": to["BufferingHints"]["IntervalInSeconds"],
        "gzip": to["CompressionFormat"] == "GZIP",
        "extension": to.get("FileExtension", ""),
    }
    return StreamConfig(**(given | changes))
