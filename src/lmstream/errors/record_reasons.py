"""Reasons about records: LMS-10xx the whole record, LMS-11xx one data point, LMS-12xx a point skipped on purpose."""

from typing import Final

from lmstream.errors.reason import Reason

RECORDS: Final[dict[str, Reason]] = {
    "decode.empty": Reason(
        "LMS-1001", "the record value is empty (0 bytes)", "stop the producer from sending records without a bundle"
    ),
    "decode.json": Reason(
        "LMS-1002", "malformed or truncated JSON", "compare the bytes in the dead letter with what the producer sent"
    ),
    "decode.utf8": Reason("LMS-1003", "invalid UTF-8", "let the producer send UTF-8"),
    "decode.encoding": Reason(
        "LMS-1004", "a byte order mark, or UTF-16 or UTF-32 text", "send UTF-8 without a byte order mark"
    ),
    "decode.top_level": Reason(
        "LMS-1005",
        "not an OTLP metrics bundle",
        "send ExportMetricsServiceRequest with lowerCamelCase keys to this topic",
    ),
    "decode.type": Reason(
        "LMS-1006",
        "wrong type in the bundle, above the data points",
        "let the producer send the type that metrics.proto requires there",
    ),
    "decode.protobuf": Reason(
        "LMS-1007", "the bytes are not an OTLP metrics protobuf", "check which producers write to the topic"
    ),
    "decode.gzip": Reason(
        "LMS-1008", "damaged gzip or zstd data", "compare the bytes in the dead letter with what the producer sent"
    ),
    "limits.depth": Reason(
        "LMS-1010", "attribute values are nested too deep", "nest attribute values at most 47 levels deep"
    ),
    "limits.size": Reason(
        "LMS-1011",
        "the record is larger than the limits allow",
        "raise limits.record_bytes or limits.inflated_bytes, or send smaller bundles",
    ),
    "limits.ratio": Reason(
        "LMS-1012",
        "the compressed value expands too much (possible decompression bomb)",
        "raise limits.inflate_ratio, but only for a producer you trust",
    ),
    "limits.points": Reason(
        "LMS-1013", "more data points than the limits allow", "raise limits.points or send smaller bundles"
    ),
    "record.kills": Reason(
        "LMS-1014",
        "the process died three times while it transformed this record",
        "raise the memory limit, then read the record from the topic again: the letter holds no bytes of it",
    ),
    "record.envelope": Reason(
        "LMS-1016",
        "an entry of the Lambda event is not a Kafka record",
        "remove any input template from the Pipe, so that entries arrive unchanged; the letter holds the entry",
    ),
    "limits.attributes": Reason(
        "LMS-1015",
        "more attributes, exemplars or items in one value than the limits allow",
        "send at most 1,024 of each per resource, scope, data point or value",
    ),
    "limits.batch": Reason(
        "LMS-1017",
        "a compressed Kafka batch expands beyond the limit",
        "if you trust the producer, raise source.batch_bytes and read the offsets in the letter again",
    ),
    "decode.not_understood": Reason(
        "LMS-1018",
        "the bundle has no data points, but has fields that OTLP metrics do not define",
        'send OTLP metrics 1.0 field names, or set engine.field_names = "any" to accept snake_case',
    ),
    "decode.signal": Reason(
        "LMS-1019", "OTLP traces, logs or profiles instead of metrics", "send only metrics to this topic"
    ),
    "decode.compression": Reason(
        "LMS-1020",
        "the record value is compressed with an unsupported method",
        "compress values with gzip or zstd, or use Kafka's own compression (compression.type)",
    ),
    "decode.framing": Reason(
        "LMS-1021",
        "the bundle is wrapped in another format or encoding",
        "let the producer write the bytes of the bundle alone, without a schema registry or a text encoding",
    ),
    "record.given_up": Reason(
        "LMS-1022",
        "the Kafka event source mapping used up its retries and sent the record to its on-failure destination",
        "fix what blocked delivery, then run `lmstream dlq replay`; the record itself may be valid",
    ),
    "record.returned": Reason(
        "LMS-1025",
        "Firehose accepted the row but could not deliver it (found in the error prefix)",
        "fix the error that Firehose reports, then run `lmstream dlq replay`; rows keep their ids",
    ),
    "record.no_row": Reason(
        "LMS-1026",
        "an object in the error prefix holds something that is not a row",
        "run `lmstream dlq show`, then find the other producer that writes to this stream",
    ),
    "record.names": Reason(
        "LMS-1023",
        "the letter was written with another engine.field_names, so its point numbers do not match",
        "replay the letter with the engine.field_names that it was written with",
    ),
    "record.unreadable": Reason(
        "LMS-1024",
        "bytes in the topic are not a Kafka record",
        "check the disks of the brokers and the producer; the letter holds the offsets and the bytes",
    ),
    "point.type": Reason(
        "LMS-1101",
        "wrong type in a data point",
        "let the producer send the type that metrics.proto requires; the record's other points were delivered",
    ),
    "point.shape": Reason(
        "LMS-1102",
        "histogram counts do not match the bounds",
        "send one more bucketCounts than explicitBounds, or leave both empty",
    ),
    "value.missing": Reason(
        "LMS-1103", "the data point has no value", "set asInt or asDouble, or the no-recorded-value flag"
    ),
    "value.two": Reason("LMS-1104", "the data point has both asInt and asDouble", "set one of the two"),
    "value.range": Reason(
        "LMS-1105", "an integer outside int64 or a number outside float64", "send numbers within the range"
    ),
    "time.range": Reason(
        "LMS-1106",
        "the timestamp is outside the years 2000 to 2100",
        "check the producer's clock and unit: OTLP times are nanoseconds",
    ),
    "org.unresolved": Reason(
        "LMS-1107", "no organization for the resource", "set org_id, org_by_topic or org_attributes"
    ),
    "row.too_large": Reason(
        "LMS-1108", "the row is larger than the sink accepts", "shorten the attributes; the limit is 900 KiB"
    ),
    "time.missing": Reason(
        "LMS-1109",
        "the point has no timeUnixNano and its scope has no epoch attribute",
        'let the producer send timestamps, or set engine.time_fallback = "record" to use the Kafka timestamp',
    ),
    "point.labels": Reason(
        "LMS-1110",
        "the point has labels (OTLP 0.7 to 0.11) that are missing from its attributes",
        "use OTLP 0.12 or newer at the sender (CloudWatch metric streams: opentelemetry1.0)",
    ),
    "flags.no_value": Reason(
        "LMS-1201", "the no-recorded-value flag is set", "do nothing: OTLP marks stale series this way"
    ),
    "value.nan": Reason("LMS-1202", "the value is NaN", "do nothing, unless the metric should have values"),
    "value.infinite": Reason(
        "LMS-1203", "the value is infinite", "do nothing, unless the metric should have finite values"
    ),
}
