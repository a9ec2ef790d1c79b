"""Configuration of a lab delivery stream, checked as the service checks it when a stream is created."""

import re
from typing import Any, Literal

from msgspec import Struct

from lmstream.errors import ConfigError
from lmstream.lab.firehose_prefix import ERROR_TYPE, FIREHOSE, PARTITION_KEY, TIMESTAMP, parse_prefix, query_keys
from lmstream.settings import MIB, Settings

# docs.aws.amazon.com/firehose/latest/APIReference: BufferingHints, ExtendedS3DestinationConfiguration, Processor
PARTITIONED_BUFFER = (64 * MIB, 128 * MIB)  # "must be at least 64 when Dynamic Partitioning is enabled"
BUFFER = (1 * MIB, 128 * MIB)
PARTITIONED_SECONDS = (60, 900)  # no zero buffering with dynamic partitioning
SECONDS = (0, 900)
QUERY_CHARS = 5120
ACTIVE_PARTITIONS = 500

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_EXTENSION = re.compile(r"\.[0-9a-z!\-_.*'()]{1,127}")


class StreamConfig(Struct, frozen=True, kw_only=True):
    """One delivery stream. A value the service would refuse raises ConfigError here."""

    name: str
    type: Literal["DirectPut", "KinesisStreamAsSource", "MSKAsSource", "DatabaseAsSource"] = "DirectPut"
    """DeliveryStreamType: a stream that has a source of its own refuses what is put."""
    prefix: str
    """Prefix expression of the objects, with !{partitionKeyFromQuery:x} for the keys of `query`."""
    error_prefix: str = "errors/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/"
    """Prefix expression of what could not be partitioned."""
    query: str = ""
    """jq query of the partition keys, one object; empty: no dynamic partitioning."""
    deaggregate: bool = True
    """RecordDeAggregation of type JSON: objects one after the other, newlines between them or not; at most 500."""
    delimiter: bool = True
    """AppendDelimiterToRecord: a newline after every row. Without it deaggregated rows run into each other."""
    buffer_bytes: int = 64 * MIB
    """Bytes of one partition before it is written."""
    buffer_seconds: int = 60
    """Age of a partition's oldest row before it is written. The service takes up to half as long again."""
    speed_up: float = 1.0
    """Divides `buffer_bytes` and `buffer_seconds`, which keep the service's limits: for tests and the demo."""
    gzip: bool = True
    active_partitions: int = ACTIVE_PARTITIONS
    """Partitions with rows waiting; rows of one more go to the error prefix. AWS raises it on request."""
    extension: str = ""
    """FileExtension of the objects; empty: .gz or none, as in the service."""
    bucket: str = "lab"
    """What the description says of where objects go; they go into the store that the stream was given."""

    def __post_init__(self) -> None:
        """Check what CreateDeliveryStream checks."""
        prefix, error_prefix = parse_prefix("prefix", self.prefix), parse_prefix("error_prefix", self.error_prefix)
        keys = set(query_keys(self.query)) if self.query else set()
        size = PARTITIONED_BUFFER if self.query else BUFFER
        age = PARTITIONED_SECONDS if self.query else SECONDS
        checks = [
            (_NAME.fullmatch(self.name), f"name must match {_NAME.pattern}, not {self.name!r}"),
            (len(self.query) <= QUERY_CHARS, f"query has {len(self.query)} characters; Firehose takes {QUERY_CHARS}"),
            (
                not keys - prefix.keys(),
                f"query may not have keys that the prefix does not use: {', '.join(sorted(keys - prefix.keys()))}",
            ),
            (
                not prefix.keys() - keys,
                f"prefix uses keys that the query does not give: {', '.join(sorted(prefix.keys() - keys))}",
            ),
            (not prefix.uses(FIREHOSE, ERROR_TYPE), f"prefix may not use !{{firehose:{ERROR_TYPE}}}: error_prefix may"),
            (not error_prefix.uses(PARTITION_KEY), "error_prefix may not use partition keys"),
            (
                error_prefix.uses(FIREHOSE, ERROR_TYPE),
                f"error_prefix must be set and have !{{firehose:{ERROR_TYPE}}}, because prefix has expressions",
            ),
            (
                self.query or not self.deaggregate,
                "deaggregate needs dynamic partitioning: set query, or deaggregate=False",
            ),
            (
                size[0] <= self.buffer_bytes <= size[1],
                f"buffer_bytes must be {size[0]} to {size[1]}, not {self.buffer_bytes}; speed_up shortens it",
            ),
            (
                age[0] <= self.buffer_seconds <= age[1],
                f"buffer_seconds must be {age[0]} to {age[1]}, not {self.buffer_seconds}; speed_up shortens it",
            ),
            (self.speed_up > 0, "speed_up must be above 0"),
            (self.active_partitions > 0, "active_partitions must be above 0"),
            (not self.extension or _EXTENSION.fullmatch(self.extension), f"extension must match {_EXTENSION.pattern}"),
        ]
        for passed, what in checks:
            if not passed:
                raise ConfigError("config.invalid", f"delivery stream {self.name!r}: {what}")

    @classmethod
    def for_settings(cls, name: str, settings: Settings, **changes: Any) -> "StreamConfig":
        """Build the stream of these settings: prefix and query from the path template, gzip, one row a line."""
        from lmstream.partitioning import firehose_prefix, jq_query

        given: dict[str, Any] = {
            "prefix": firehose_prefix(settings),
            "query": jq_query(settings),
            "extension": ".json.gz" if changes.get("gzip", True) else ".json",
        }
        return cls(name=name, **(given | changes))

    @property
    def flush_bytes(self) -> float:
        """Bytes of a partition before it is written, sped up."""
        return self.buffer_bytes / self.speed_up

    @property
    def flush_seconds(self) -> float:
        """Age of a partition before it is written, sped up."""
        return self.buffer_seconds / self.speed_up

    @property
    def dated_prefix(self) -> str:
        """`prefix`; without any expression of time or partition the service appends the hour of arrival."""
        parsed = parse_prefix("prefix", self.prefix)
        plain = not parsed.uses(TIMESTAMP) and not parsed.uses(PARTITION_KEY)
        return self.prefix + "!{timestamp:yyyy/MM/dd/HH}/" if plain else self.prefix

    def describe(self) -> dict[str, Any]:
        """Answer as DescribeDeliveryStream does: the destination part."""
        processors: list[dict[str, Any]] = []
        if self.deaggregate:
            processors.append(_processor("RecordDeAggregation", SubRecordType="JSON"))
        if self.query:
            processors.append(
                _processor("MetadataExtraction", MetadataExtractionQuery=self.query, JsonParsingEngine="JQ-1.6")
            )
        if self.delimiter:
            processors.append(_processor("AppendDelimiterToRecord", Delimiter="\\n"))
        return {
            "RoleARN": "arn:aws:iam::000000000000:role/lab",
            "BucketARN": f"arn:aws:s3:::{self.bucket}",
            "Prefix": self.prefix,
            "ErrorOutputPrefix": self.error_prefix,
            "FileExtension": self.extension,
            "BufferingHints": {"SizeInMBs": self.buffer_bytes // MIB, "IntervalInSeconds": self.buffer_seconds},
            "CompressionFormat": "GZIP" if self.gzip else "UNCOMPRESSED",
            "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
            "ProcessingConfiguration": {"Enabled": bool(processors), "Processors": processors},
            "DynamicPartitioningConfiguration": {"Enabled": bool(self.query)},
        }


def _processor(kind: str, **parameters: str) -> dict[str, Any]:
    listed = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    return {"Type": kind, "Parameters": listed}
