"""The few errors of lmstream, named by who must act, and the table of codes that explains each of them."""

from typing import Final, NamedTuple


class Reason(NamedTuple):
    """Why something was refused: a stable code, what it means, how to mend it."""

    code: str
    meaning: str
    mend: str


# Reasons are names for machines (metrics, dead letters, tests); codes are names for people (runbooks, searches).
# LMS-10xx the whole record, LMS-11xx one data point, LMS-12xx skipped on purpose, LMS-2xxx configuration,
# LMS-3xxx source, LMS-4xxx sink, LMS-5xxx what landed, LMS-9xxx lmstream itself. What to look at: cli/runbook.toml.
REASONS: Final[dict[str, Reason]] = {
    "decode.empty": Reason(
        "LMS-1001", "the record has a value of no bytes", "look at the producer; an empty value is no bundle"
    ),
    "decode.json": Reason(
        "LMS-1002", "malformed or truncated JSON", "compare the dead letter's bytes with what the producer sent"
    ),
    "decode.utf8": Reason(
        "LMS-1003",
        "invalid UTF-8",
        "send UTF-8; the message names the byte, and in protobuf the field where it is found",
    ),
    "decode.encoding": Reason(
        "LMS-1004", "a byte order mark or UTF-16/32 text", "send UTF-8 without a byte order mark"
    ),
    "decode.top_level": Reason(
        "LMS-1005",
        "not an OTLP metrics bundle",
        "send ExportMetricsServiceRequest with lowerCamelCase keys to this topic",
    ),
    "decode.type": Reason(
        "LMS-1006", "a wrong type above the data points", "the message names the place; compare with metrics.proto"
    ),
    "decode.protobuf": Reason(
        "LMS-1007", "bytes that are no OTLP metrics protobuf", "check what is published to the topic"
    ),
    "decode.gzip": Reason(
        "LMS-1008",
        "damaged gzip or zstd data",
        "compare the dead letter's bytes with what the producer sent",
    ),
    "limits.depth": Reason("LMS-1010", "values nested too deep", "attribute values may nest 47 levels"),
    "limits.size": Reason(
        "LMS-1011",
        "more bytes than the limits allow",
        "raise limits.record_bytes or limits.inflated_bytes, or send smaller bundles",
    ),
    "limits.ratio": Reason(
        "LMS-1012", "compressed data that inflates too far", "raise limits.inflate_ratio only for a producer you trust"
    ),
    "limits.points": Reason(
        "LMS-1013", "more data points than the limits allow", "raise limits.points or send smaller bundles"
    ),
    "record.kills": Reason(
        "LMS-1014",
        "a record that killed its process three times while it was transformed",
        "its bytes are in the topic at these coordinates, not in the letter; raise the memory limit, read from there",
    ),
    "record.envelope": Reason(
        "LMS-1016",
        "an entry of a Lambda event that is no Kafka record",
        "nothing may change entries on the way: no input template on the Pipe; the letter holds the entry as it came",
    ),
    "limits.attributes": Reason(
        "LMS-1015",
        "more attributes, exemplars or items of one value than the limits allow",
        "a resource, scope, data point or value may have 1,024 of each",
    ),
    "limits.batch": Reason(
        "LMS-1017",
        "a compressed batch of Kafka records that inflates to more than the limit",
        "the letter names the offsets and holds the batch; for a producer you trust raise source.batch_bytes, and read "
        "from there again",
    ),
    "decode.not_understood": Reason(
        "LMS-1018",
        "a bundle without data points that holds members or fields which OTLP metrics do not know",
        'the message names the first of them; send OTLP metrics 1.0 names, or set engine.field_names = "any" for '
        "snake_case",
    ),
    "decode.signal": Reason(
        "LMS-1019",
        "OTLP traces, logs or profiles instead of metrics",
        "send only metrics to this topic; the message names the signal",
    ),
    "decode.compression": Reason(
        "LMS-1020",
        "bytes compressed in a way that is not read inside a value",
        "let the producer compress with gzip or zstd, or leave it to Kafka (compression.type)",
    ),
    "decode.framing": Reason(
        "LMS-1021",
        "a bundle inside a frame or an encoding of something else",
        "let the producer write the bundle's bytes alone; the message names what is around them",
    ),
    "record.given_up": Reason(
        "LMS-1022",
        "a Kafka event source mapping used up its retries and wrote the record into its on-failure destination",
        "repair what kept its batch from being delivered, then `lmstream dlq replay`: the record may be healthy",
    ),
    "record.returned": Reason(
        "LMS-1025",
        "rows that Firehose took and could not deliver, from the error prefix of its stream",
        "repair what the detail names, then `lmstream dlq replay`: the rows go again as they are, with their ids",
    ),
    "record.no_row": Reason(
        "LMS-1026",
        "something in an error prefix that is no row of the contract",
        "look at it with `lmstream dlq show`; rows of lmstream are never that, so who else puts into this stream?",
    ),
    "record.names": Reason(
        "LMS-1023",
        "a letter whose points were counted under another engine.field_names",
        "replay it with engine.field_names as the message says; its ordinals are others under this one",
    ),
    "record.unreadable": Reason(
        "LMS-1024",
        "bytes in the topic that are no Kafka record",
        "the letter names the offsets and holds the bytes as they came; look at the disks of the brokers, and at what "
        "the producer sends",
    ),
    "point.type": Reason(
        "LMS-1101", "a wrong type in a data point", "compare with metrics.proto; siblings were delivered"
    ),
    "point.shape": Reason(
        "LMS-1102",
        "histogram counts that do not fit their bounds",
        "bucketCounts must be one more than explicitBounds, or both empty",
    ),
    "value.missing": Reason(
        "LMS-1103",
        "a data point without a value",
        "the producer must set asInt or asDouble, or the no-recorded-value flag",
    ),
    "value.two": Reason("LMS-1104", "a data point with asInt and asDouble", "the producer must set one"),
    "value.range": Reason(
        "LMS-1105", "an integer outside int64, or a number outside float64", "the producer must send numbers that fit"
    ),
    "time.range": Reason(
        "LMS-1106", "a time outside the years 2000 to 2100", "check the producer's clock and its unit: nanoseconds"
    ),
    "org.unresolved": Reason(
        "LMS-1107", "no organization for the resource", "set org_id, org_by_topic or org_attributes"
    ),
    "row.too_large": Reason(
        "LMS-1108", "a row over the largest that a sink takes", "shorten the attributes; the limit is 900 KiB"
    ),
    "time.missing": Reason(
        "LMS-1109",
        "neither timeUnixNano nor the scope attribute epoch",
        'the producer must send times; engine.time_fallback = "record" takes the time at which Kafka got the record',
    ),
    "point.labels": Reason(
        "LMS-1110",
        "a point with labels, as OTLP 0.7 to 0.11 wrote them, that its attributes lack",
        "let the sender use OTLP 0.12 or newer (CloudWatch metric streams: opentelemetry1.0); without its labels a row "
        "would not say what it is about",
    ),
    "flags.no_value": Reason(
        "LMS-1201", "the flag says that no value was recorded", "nothing: this is how OTLP marks staleness"
    ),
    "value.nan": Reason("LMS-1202", "a value that is not a number", "nothing, unless the metric should have values"),
    "value.infinite": Reason("LMS-1203", "an infinite value", "nothing, unless the metric should have finite values"),
    "sink.permanent": Reason(
        "LMS-4001", "the sink refused the rows for good", "the sink's own message is in the letter"
    ),
    "config.invalid": Reason(
        "LMS-2001",
        "a setting that is unknown, of a wrong type or out of bounds",
        "the message names the setting and what it takes",
    ),
    "config.extra": Reason("LMS-2002", "an optional part is not installed", "install the extra that the message names"),
    "config.plugin": Reason(
        "LMS-2003",
        "a codec, source or sink that cannot be loaded",
        "check the name, or the dotted name of your own module",
    ),
    "usage.arguments": Reason(
        "LMS-2004", "a command line that is none", "see --help of the verb; the message names what is not understood"
    ),
    "config.certificate": Reason(
        "LMS-2010",
        "the client's certificate or key cannot be used",
        "renew or repair what the message names; certificate and key must be of one pair, in PEM",
    ),
    "config.secret": Reason(
        "LMS-2011",
        "the secret with the client's certificate cannot be had",
        "check its name and region, secretsmanager:GetSecretValue (and kms:Decrypt), and its three fields",
    ),
    "event.shape": Reason(
        "LMS-2020",
        "the Lambda function was called with an event that is none of Kafka records",
        "let a Pipe or a Kafka event source mapping call it, without an input template; the console's test events hold "
        "no records, docs/lambda.md has one that does",
    ),
    "source.unreachable": Reason(
        "LMS-3001",
        "the broker cannot be reached",
        "check address, port, security group and protocol (plaintext or SSL)",
    ),
    "source.tls": Reason("LMS-3002", "the TLS handshake failed", "check CA, client certificate, key and host name"),
    "source.topic": Reason(
        "LMS-3003", "the topic does not exist or may not be read", "create the topic, or grant READ on topic and group"
    ),
    "source.file": Reason(
        "LMS-3004", "an input file cannot be read", "check the path, its permissions, and that it is whole"
    ),
    "source.offset": Reason(
        "LMS-3005",
        "an offset that the topic no longer holds",
        "what lay there is gone from Kafka; to go on with what there is, set source.on_offset_lost to earliest",
    ),
    "source.commit": Reason(
        "LMS-3006",
        "offsets could not be committed",
        "nothing is lost: the records since the last commit are read again; look at the broker",
    ),
    "source.stuck": Reason(
        "LMS-3007",
        "the consumer group cannot be kept, and new members did not help",
        "start the process again (exit 75); if that does not help either, the message says what the broker answers",
    ),
    "source.fenced": Reason(
        "LMS-3008",
        "another member of the group has the same group.instance.id",
        "give each process an instance id of its own, or none",
    ),
    "source.unreadable": Reason(
        "LMS-3009",
        "a batch of records that arrives damaged each time it is read",
        "look at the disk of the broker that leads the partition, and let another replica lead it; to pass over the "
        'batch: `lmstream skip` as the message says, or source.on_unreadable = "skip"',
    ),
    "source.tls_expired": Reason(
        "LMS-3010",
        "a certificate has expired, or is not valid yet",
        "renew the certificate that the message names; if it is not due, look at the clocks",
    ),
    "source.tls_issuer": Reason(
        "LMS-3011",
        "the broker's certificate is of an authority that is not trusted here",
        "set ca to the PEM file of the authority that signs the brokers' certificates",
    ),
    "source.tls_host": Reason(
        "LMS-3012",
        "the broker's certificate is for another host name",
        "use a name in bootstrap that is in the certificate, or have it issued for this one",
    ),
    "source.tls_client": Reason(
        "LMS-3013",
        "the broker refused the client certificate, or misses one",
        "set cert and key to a certificate of an authority in the brokers' trust store, and not revoked",
    ),
    "source.tls_port": Reason(
        "LMS-3014",
        "TLS against plaintext",
        "set security to what this port speaks, or take the other port (MSK: 9092 plaintext, 9094 TLS)",
    ),
    "answer.bounds": Reason(
        "LMS-3015",
        "an answer, an object or a file is larger than it may be, or comes too slowly",
        "see what answers at the address that the message names, or what wrote the file: neither lmstream nor the "
        "service writes such a thing; nothing was committed or changed",
    ),
    "source.quota": Reason(
        "LMS-3017",
        "the brokers hold back what is fetched, by a quota",
        "raise consumer_byte_rate of this user or client id (kafka-configs.sh, entity types users and clients); a "
        "batch larger than the quota's window never comes",
    ),
    "source.sasl": Reason(
        "LMS-3016",
        "the broker refused user, password or token, or no token could be had",
        "check sasl_mechanism and what the message names: user and password, OAuth server, or AWS credentials and "
        "rights (MSK IAM: kafka-cluster:Connect)",
    ),
    "sink.unreachable": Reason("LMS-4002", "the sink cannot be reached", "check endpoint, network and credentials"),
    "sink.denied": Reason(
        "LMS-4003", "the sink refused access", "grant firehose:PutRecordBatch on the stream, and use of its KMS key"
    ),
    "sink.missing": Reason(
        "LMS-4004", "the delivery stream does not exist", "check the name, the region and the account"
    ),
    "sink.refused": Reason(
        "LMS-4010",
        "the stream refuses the request, and nothing says that the rows are at fault",
        "read the service's words: rows need a stream of type DirectPut (its source is Direct PUT), not one that "
        "Kinesis or MSK feeds",
    ),
    "sink.clock": Reason(
        "LMS-4011",
        "AWS refuses the signature because the clock of this machine is wrong",
        "set the clock by NTP (chronyc tracking, timedatectl); the request is signed anew and sent again at once",
    ),
    "sink.busy": Reason(
        "LMS-4012",
        "the service answers that it is busy, or fails with a 5xx",
        "nothing at first: a start asks four times and goes on without the answer; if it stays, look at quotas",
    ),
    "sink.full": Reason(
        "LMS-4013",
        "the disk of the landing folder, of dead letters or of the state folder is full",
        "free space; a run starts all the same and waits with what must be written there, nothing is lost",
    ),
    "sink.partitions": Reason(
        "LMS-4014",
        "the hours in flight have as many partitions as the stream takes",
        "nothing while an outage is caught up: the oldest hours go first; with a higher quota of the stream raise "
        "delivery.partitions",
    ),
    "sink.disk": Reason(
        "LMS-4005", "the landing folder cannot be written", "free space or mend permissions; nothing was committed"
    ),
    "sink.pipe": Reason(
        "LMS-4006",
        "the reader of standard output has gone",
        "nothing, if it meant to stop; else look at the command after the pipe",
    ),
    "event.undelivered": Reason(
        "LMS-4009",
        "records of an invocation could not be delivered in its time",
        "nothing is lost, the source sends them again; mend what the message names",
    ),
    "dead_letters.breaker": Reason(
        "LMS-4007",
        "so many records are refused that the fault is more likely here or at the producer than in the records",
        "see `lmstream dlq stats`, mend settings or producer, start again; breaker.records = 0 lets all through",
    ),
    "dead_letters.unavailable": Reason(
        "LMS-4008",
        "dead letters cannot be written or read",
        "check bucket or topic, network and permissions; nothing was committed past them",
    ),
    "verify.failed": Reason(
        "LMS-5001",
        "rows are lost or come from nowhere",
        "the report lists their coordinates; replay them from the topic",
    ),
    "place.unreachable": Reason(
        "LMS-5010",
        "the bucket does not answer, or not as S3 does",
        "check network, --region and --endpoint-url, then again: nothing was changed",
    ),
    "place.denied": Reason(
        "LMS-5011",
        "the bucket may not be read",
        "grant s3:ListBucket on the bucket, s3:GetObject on the prefix, and kms:Decrypt on its key",
    ),
    "place.missing": Reason(
        "LMS-5012",
        "there is no such bucket or object",
        "check name, account and --endpoint-url; an object that went away while it was read: again",
    ),
    "place.credentials": Reason(
        "LMS-5013",
        "there are no AWS credentials that can be used",
        "set AWS_PROFILE, sign in again, or run where a role is",
    ),
    "machine.files": Reason(
        "LMS-2021",
        "this process may open too few files",
        "raise the limit: ulimit -n 1024, LimitNOFILE= of a systemd unit, or --ulimit nofile= of a container",
    ),
    "bug.unexpected": Reason(
        "LMS-9001",
        "an error of lmstream itself that nobody thought of",
        "run again with --debug for the traceback, and report it",
    ),
}


class LmstreamError(Exception):
    """Base of all errors that lmstream raises on purpose. `str()` says what, where, why, how to mend and where is more.

    `exit_code` is what the command line returns: 1 at run time, 2 for usage and configuration.
    """

    exit_code = 1

    def __init__(self, reason: str, detail: str = "") -> None:
        """`reason` is a key of REASONS; `detail` says what was seen and where."""
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    @property
    def code(self) -> str:
        """The stable code, LMS-nnnn."""
        return REASONS[self.reason].code

    @property
    def mend(self) -> str:
        """How to mend it, one sentence."""
        return REASONS[self.reason].mend

    def __str__(self) -> str:
        why = REASONS[self.reason]
        detail = (self.detail or why.meaning).rstrip(". ")
        return f"{why.code} {detail} [{self.reason}]. Mend: {why.mend}. {more(why.code)}"


def more(code: str) -> str:
    """Where a person reads on, with nothing but the command line at hand."""
    return f"More: lmstream explain {code}"


class DecodeError(LmstreamError):
    """The producer must act: these bytes are no bundle and never will be. The only error of `Engine.fan_out`."""


class ConfigError(LmstreamError):
    """The operator must act before a start: a setting is wrong, or an extra is missing."""

    exit_code = 2


class SourceError(LmstreamError):
    """The operator or the network must act: records cannot be read. Nothing was committed that was not delivered."""


class RestartError(SourceError):
    """The process should be replaced: nothing that it can do itself helps. Nothing was lost."""

    exit_code = 75  # EX_TEMPFAIL of sysexits


class SinkError(LmstreamError):
    """The operator or the service must act: rows cannot be delivered. Nothing was committed that was not delivered."""


def coded(reason: str, otherwise: str = "source.stuck") -> dict[str, str]:
    """What a warning carries, so that an operator finds its section of the runbook: a code and its reason. A service's
    own word is none of ours: then `otherwise`."""
    reason = reason if reason in REASONS else otherwise
    return {"code": REASONS[reason].code, "reason": reason}
