"""Reasons about a run: LMS-2xxx configuration, 3xxx source, 4xxx sink, 5xxx what landed, 9xxx lmstream itself."""

from typing import Final

from lmstream.errors.reason import Reason

RUNS: Final[dict[str, Reason]] = {
    "config.invalid": Reason(
        "LMS-2001",
        "a setting is unknown, has the wrong type or is out of range",
        "correct the setting, then run `lmstream validate`",
    ),
    "config.extra": Reason(
        "LMS-2002", "an optional dependency is not installed", "install the extra: pip install 'lmstream[NAME]'"
    ),
    "config.plugin": Reason(
        "LMS-2003",
        "a codec, source or sink cannot be loaded",
        "correct its name, or the dotted name of your own module",
    ),
    "usage.arguments": Reason(
        "LMS-2004", "invalid command line", "correct the arguments; `lmstream VERB --help` lists them"
    ),
    "config.certificate": Reason(
        "LMS-2010",
        "the client certificate or key cannot be used",
        "renew or replace the file: certificate and key must be PEM and belong together",
    ),
    "config.secret": Reason(
        "LMS-2011",
        "the secret with the client certificate cannot be read",
        "check its name, region and three fields, and allow secretsmanager:GetSecretValue (and kms:Decrypt)",
    ),
    "event.shape": Reason(
        "LMS-2020",
        "the Lambda event does not contain Kafka records",
        "let a Pipe or a Kafka event source mapping call the function, without an input template; docs/lambda.md has a "
        "test event",
    ),
    "machine.files": Reason(
        "LMS-2021",
        "the limit of open files is too low for this process",
        "raise the limit: ulimit -n 1024, LimitNOFILE= of a systemd unit, or --ulimit nofile= of a container",
    ),
    "source.unreachable": Reason(
        "LMS-3001",
        "the broker cannot be reached",
        "check address, port, security group and protocol (plaintext or SSL)",
    ),
    "source.tls": Reason("LMS-3002", "the TLS handshake failed", "check CA, client certificate, key and host name"),
    "source.topic": Reason(
        "LMS-3003",
        "the topic does not exist or access is denied",
        "create the topic, or grant READ on topic and group",
    ),
    "source.file": Reason(
        "LMS-3004", "an input file cannot be read", "check its path and permissions, and that it is complete"
    ),
    "source.offset": Reason(
        "LMS-3005",
        "the offset is no longer in the topic (retention deleted it)",
        "set source.on_offset_lost to earliest to continue with what is left; the deleted records cannot be read",
    ),
    "source.commit": Reason(
        "LMS-3006",
        "offsets could not be committed",
        "check the broker; nothing is lost, records since the last commit are read again",
    ),
    "source.stuck": Reason(
        "LMS-3007",
        "the consumer cannot stay in the group, and replacing it did not help",
        "restart the process (exit code 75); if it stops again, check the logs of the brokers",
    ),
    "source.fenced": Reason(
        "LMS-3008",
        "another group member has the same group.instance.id",
        "give each process its own group.instance.id, or none",
    ),
    "source.unreadable": Reason(
        "LMS-3009",
        "a batch of records is damaged each time it is read",
        "check the disk of the partition's leader and let another replica lead; to skip the batch run `lmstream skip` "
        'or set source.on_unreadable = "skip"',
    ),
    "source.tls_expired": Reason(
        "LMS-3010",
        "a certificate has expired or is not valid yet",
        "renew the certificate; if its dates are right, check the clocks on both sides",
    ),
    "source.tls_issuer": Reason(
        "LMS-3011",
        "the broker's certificate is signed by an authority that is not trusted here",
        "set ca to the PEM file of the authority that signs the brokers' certificates",
    ),
    "source.tls_host": Reason(
        "LMS-3012",
        "the broker's certificate is for another host name",
        "use a host name in bootstrap that is in the certificate, or issue the certificate for this name",
    ),
    "source.tls_client": Reason(
        "LMS-3013",
        "the broker rejected the client certificate, or requires one",
        "set cert and key to a certificate that is not revoked, from an authority in the brokers' trust store",
    ),
    "source.tls_port": Reason(
        "LMS-3014",
        "one side speaks TLS and the other plaintext",
        "set security to the protocol of this port, or use the other port (MSK: 9092 plaintext, 9094 TLS)",
    ),
    "answer.bounds": Reason(
        "LMS-3015",
        "a response, object or file is too large or arrives too slowly",
        "check which server answers at this address, or what wrote the file; nothing was committed or changed",
    ),
    "source.sasl": Reason(
        "LMS-3016",
        "SASL authentication failed, or no token could be obtained",
        "check sasl_mechanism, then user and password, OAuth server, or AWS credentials and permissions (MSK IAM: "
        "kafka-cluster:Connect)",
    ),
    "source.quota": Reason(
        "LMS-3017",
        "the brokers throttle fetches (consumer_byte_rate quota)",
        "raise consumer_byte_rate of this user or client id (kafka-configs.sh, entity types users and clients); a "
        "batch larger than the quota's window never arrives",
    ),
    "sink.permanent": Reason(
        "LMS-4001",
        "the sink rejected the rows permanently",
        "fix the sink's error, which the letter quotes, then replay the letter",
    ),
    "sink.unreachable": Reason("LMS-4002", "the sink cannot be reached", "check endpoint, network and credentials"),
    "sink.denied": Reason(
        "LMS-4003",
        "the sink denied access",
        "grant firehose:PutRecordBatch on the stream, and use of its KMS key",
    ),
    "sink.missing": Reason(
        "LMS-4004", "the delivery stream does not exist", "check the name, the region and the account"
    ),
    "sink.disk": Reason(
        "LMS-4005",
        "the landing folder cannot be written",
        "free disk space or fix permissions; nothing was committed",
    ),
    "sink.pipe": Reason(
        "LMS-4006",
        "the reader of standard output has exited",
        "check the command after the pipe; if it stopped on purpose (like `head`), do nothing",
    ),
    "dead_letters.breaker": Reason(
        "LMS-4007",
        "the circuit breaker is open: too many records are refused for single bad records to be the cause",
        "run `lmstream dlq stats`, fix settings or producer, restart; breaker.records = 0 turns the breaker off",
    ),
    "dead_letters.unavailable": Reason(
        "LMS-4008",
        "dead letters cannot be written or read",
        "check bucket or topic, network and permissions; no offset was committed past an unwritten letter",
    ),
    "event.undelivered": Reason(
        "LMS-4009",
        "records of this invocation could not be delivered before its timeout",
        "fix the sink's error; nothing is lost, the source sends the records again",
    ),
    "sink.refused": Reason(
        "LMS-4010",
        "the stream rejects requests, and the rows may be valid",
        "use a stream of type DirectPut (its source is Direct PUT), not one that reads from Kinesis or MSK",
    ),
    "sink.clock": Reason(
        "LMS-4011",
        "AWS rejects the signature because the clock of this machine is wrong",
        "synchronize the clock by NTP (chronyc tracking, timedatectl); the request is retried at once",
    ),
    "sink.busy": Reason(
        "LMS-4012",
        "the service throttles, or returns a 5xx error",
        "wait: a start asks four times and continues without the answer; if it persists, check the quotas",
    ),
    "sink.full": Reason(
        "LMS-4013",
        "the disk of the landing folder, the dead letters or the state folder is full",
        "free disk space; until then the run waits, and nothing is lost",
    ),
    "sink.partitions": Reason(
        "LMS-4014",
        "the hours in flight need more active partitions than the stream accepts",
        "wait while an outage is caught up (oldest hours go first); if the stream's quota is higher, raise "
        "delivery.partitions",
    ),
    "verify.failed": Reason(
        "LMS-5001",
        "rows are missing or unexpected",
        "replay the missing rows from the topic; the report lists their coordinates",
    ),
    "place.unreachable": Reason(
        "LMS-5010",
        "the bucket does not respond, or not like S3",
        "check network, --region and --endpoint-url, then retry; nothing was changed",
    ),
    "place.denied": Reason(
        "LMS-5011",
        "access to the bucket is denied",
        "grant s3:ListBucket on the bucket, s3:GetObject on the prefix, and kms:Decrypt on its key",
    ),
    "place.missing": Reason(
        "LMS-5012",
        "the bucket or object does not exist",
        "check name, account and --endpoint-url; if an object was deleted during the read, run the command again",
    ),
    "place.credentials": Reason(
        "LMS-5013",
        "no usable AWS credentials",
        "set AWS_PROFILE, sign in again, or run where a role is attached",
    ),
    "bug.unexpected": Reason(
        "LMS-9001", "an unexpected error in lmstream itself", "run again with --debug and report the traceback"
    ),
}
