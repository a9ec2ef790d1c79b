"""Settings of a connection to Kafka and of the source that uses one, and the addresses in them."""

import re
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from lmstream.errors import ConfigError, refuse
from lmstream.members import GROUP_FIX, NO_GROUP
from lmstream.settings import MIB

Milliseconds = Annotated[int, Meta(ge=1)]
Bytes = Annotated[int, Meta(ge=1024)]


class KafkaConnection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How brokers are reached: by the source, by letters in a topic, by verbs. `lmstream.kafka.tls.Tls` makes of it
    what a client takes.
    """

    bootstrap: str
    """Brokers as `host:port`, comma-separated: any of the cluster, which name the others.
    Costs: nothing: only another cluster is another topic and another group."""
    security: Literal["plaintext", "ssl", "sasl_ssl", "sasl_plaintext"] = "plaintext"
    """How brokers are reached: `ssl` with a client certificate (mTLS) is what MSK and this project prefer.
    Costs: nothing."""
    sasl_mechanism: Literal["", "SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER", "AWS_MSK_IAM"] = ""
    """With `sasl_ssl`: passwords (SCRAM-SHA-512 on MSK), tokens, or the AWS credentials of the usual chain.
    Costs: nothing."""
    sasl_username: str = ""
    """User of SCRAM or PLAIN.
    Costs: nothing: the brokers' ACLs must allow the new one."""
    sasl_password: str = ""
    """Where the password is: `env:NAME`, `file:PATH`, or `awssm:NAME` (or an ARN) of a secret in AWS Secrets Manager, a
    JSON object {username, password} as MSK wants it; then `sasl_username` may be left out. Read by each new client.
    Costs: nothing."""
    oauth_token: str = ""
    """For OAUTHBEARER, where the token is: `file:PATH` (read again before it ends, as Kubernetes renews such files) or
    `env:NAME`.
    Costs: nothing."""
    oauth_url: str = ""
    """For OAUTHBEARER instead: the token endpoint of an OAuth server (https), asked with client credentials.
    Costs: nothing."""
    oauth_client_id: str = ""
    """With `oauth_url`: the name of this client at that server.
    Costs: nothing."""
    oauth_client_secret: str = ""
    """Where the client's secret is: `env:NAME` or `file:PATH`.
    Costs: nothing."""
    oauth_scope: str = ""
    """With `oauth_url`: the scope to ask for; empty asks for none.
    Costs: nothing."""
    aws_region: str = ""
    """For AWS_MSK_IAM: the cluster's region; empty takes that in the brokers' names.
    Costs: nothing."""
    ca: str = ""
    """PEM file of the authorities that may sign the brokers; empty takes the system's.
    Costs: nothing: a file that is replaced under the same name is seen without a restart."""
    cert: str = ""
    """PEM file of the client's certificate chain, for mTLS; or `awssm:NAME` (or an ARN) of a secret in AWS Secrets
    Manager, a JSON object {certificate, privateKey, privateKeyPassword} as Lambda and EventBridge Pipes want it.
    Costs: nothing: a file or secret that is renewed is seen without a restart."""
    key: str = ""
    """PEM file of the client's key; empty when it is in `cert`.
    Costs: nothing."""
    key_password: str = ""
    """Where the key's password is: `env:NAME` or `file:PATH`. Never the password itself.
    Costs: nothing."""
    reload_seconds: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds between two looks for a renewed certificate: at the files, or at the secret (one request each).
    Costs: money: Secrets Manager bills each request."""
    secrets_region: str = ""
    """AWS region of the secret; empty takes that of its ARN, else that of the environment.
    Costs: nothing."""
    secrets_endpoint_url: str = ""
    """Another endpoint for the secret: a VPC endpoint, or a local one.
    Costs: nothing."""
    request_timeout_ms: Milliseconds = 30_000
    """How long one request may take.
    Costs: nothing."""


class Settings(KafkaConnection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the Kafka source. Timeouts are those that survive a broker restart; change them in tests."""

    topics: tuple[str, ...]
    """Topics to read. One that begins with ^ is a regular expression of whole names, as `^lm[.]metrics[.].*`: topics
    that match and appear later are read from their beginning, without a restart.
    Costs: offsets: a new topic is read from `start_from` on, one that is left out stays where its commit is."""
    on_topic_missing: Literal["stop", "wait"] = "stop"
    """What a start does when a topic that is named is not there: end with an error, or wait until it appears. While it
    runs a topic that is gone is waited for in any case; and for a pattern that no topic matches.
    Costs: restarts: with `stop`, until the topic is there."""
    topics_refresh_ms: Milliseconds = 30_000
    """How often the brokers are asked for topics and partitions that have appeared. While a topic is missing they are
    asked every second.
    Costs: delay: how late a new topic or partition is seen."""
    group: str = ""
    """Consumer group: members of one group share the partitions, and its offsets are all the state there is. Whatever
    reads in a group refuses an empty name: two deployments that leave it out would each get half of the topic.
    Costs: duplicates, loss: another group has commits of its own. Without any it begins at `start_from`: the whole
    topic again, or nothing of what came before."""
    start_from: Literal["earliest", "latest"] = "earliest"
    """Where partitions start for which the group has no commit. A commit always wins.
    Costs: loss, duplicates: with `latest` nothing that is in the topic before the first start is read."""
    client_rack: str = ""
    """Availability zone, to read from replicas nearby.
    Costs: money: traffic between zones is billed."""
    fetch_bytes: Bytes = 4 * MIB
    """Bytes one broker may send at a time.
    Costs: memory.
    Limit: lmstream's own: 1 KiB, below which no batch would come whole."""
    partition_bytes: Bytes = 1 * MIB
    """Bytes of one partition fetched ahead. Memory is at most this times the partitions, beside what is in flight.
    librdkafka (`type = "confluent"`) gets 8 KiB of a partition in one fetch, because it inflates a fetch whole.
    Costs: memory.
    Limit: as `fetch_bytes`."""
    batch_bytes: Bytes = 64 * MIB
    """Bytes that one compressed batch of records may hold once inflated. A larger one is never opened: a dead letter
    takes it as it came. Brokers take batches of 1 MiB (compressed) by default, LMDP's inflate 20 to 32-fold.
    One large batch is open at a time, and takes its size of memory beside the byte budget. For `type = "kafka"` only:
    librdkafka opens batches of gzip, snappy and lz4 whatever they hold.
    Costs: memory, letters.
    Limit: as `fetch_bytes`."""
    session_timeout_ms: Milliseconds = 45_000
    """After this long without a heartbeat the group gives our partitions to others.
    Costs: duplicates, delay: a short one ends memberships in a pause of the network, a long one leaves the
    partitions of a dead process unread for so long. Brokers take 6 s to 30 min by
    default (group.min.session.timeout.ms, group.max.session.timeout.ms)."""
    heartbeat_interval_ms: Milliseconds = 3_000
    """How often the group hears of this member: a third of the session at most, so that one may be lost.
    Costs: duplicates: as `session_timeout_ms`."""
    rebalance_timeout_ms: Milliseconds = 60_000
    """How long the group waits for us when it rebalances; the drain has to fit in.
    Costs: duplicates, delay: a member that has not drained by then loses its partitions, and all others wait for it."""
    drain_timeout_ms: Milliseconds = 55_000
    """How long what is in flight may take before its partitions are revoked regardless: rows may then come twice. The
    runtime stops waiting before that.
    Costs: duplicates, delay."""
    request_timeout_ms: Milliseconds = 90_000
    """Above the rebalance timeout: a JoinGroup is answered only at its end.
    Costs: delay: how late a broker that hangs is noticed."""
    commit_timeout_ms: Milliseconds = 10_000
    """How long a commit may take; then it has failed, and the next one covers it.
    Costs: nothing."""
    max_poll_interval_ms: Milliseconds = 300_000
    """How long the client may go without being asked for records before it leaves the group.
    Costs: duplicates: as `session_timeout_ms`."""
    startup_timeout_ms: Milliseconds = 10_000
    """How long a start may take to find brokers and topics; looking up their names may take as long once more.
    Costs: restarts: a start that does not find them ends with an error."""
    stuck_timeout_ms: Milliseconds = 15_000
    """How long past the rebalance timeout a client may say nothing before it is replaced.
    Costs: duplicates: a client that is replaced too early leaves records unsettled."""
    on_offset_lost: Literal["stop", "earliest"] = "stop"
    """What to do when the next offset is gone from the topic: end with an error that counts what is lost, or count it
    and continue at the earliest there is.
    Costs: loss: `earliest` skips what retention has deleted, and counts it."""
    on_unreadable: Literal["stop", "skip"] = "stop"
    """What to do with a batch of records that arrives damaged each time it is read: hold its partition, while all
    others continue, or write a dead letter that holds its bytes and continue behind it.
    Costs: letters: with `skip` the records of the batch are in one dead letter, unread."""
    restart_backoff_ms: Milliseconds = 1_000
    """Before the first new member; doubled for each further one, up to the next setting.
    Costs: delay."""
    restart_backoff_max_ms: Milliseconds = 60_000
    """The longest wait before a new member.
    Costs: delay."""
    restart_limit: Annotated[int, Meta(ge=0)] = 10
    """Members lost within the window that are made good; one more, or a whole window without any member, ends the
    process with exit code 75. Waiting for brokers that are away does not count.
    Unit: members.
    Costs: restarts."""
    restart_window_ms: Milliseconds = 600_000
    """The time over which lost members are counted.
    Costs: restarts."""
    client: dict[str, str | int | float | bool] = {}
    """Any other setting of the client library, by its own name. Those that lmstream owns are refused. Verbs that look
    at a topic use aiokafka, whatever source.type is, and take of these what aiokafka has.
    Costs: duplicates, memory: whatever the client library says of the setting."""

    def __post_init__(self) -> None:
        """Raises ConfigError for settings of the client that are lmstream's own, and for names that no topic can have:
        before a start, and in `validate`."""
        wrong = [ConfigError("config.invalid", f"source.topics: {why}") for each in self.topics if (why := unfit(each))]
        if self.client:
            try:
                client_settings(self)
            except ConfigError as e:
                refuse([*wrong, *e.errors])
        refuse(wrong)


_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")
"""Names that brokers take, and not `.` or `..`: Topic.java of Apache Kafka, whose documentation leaves it out."""


def unfit(topic: str) -> str:
    """Why no topic can have this name; empty for one that can be, and for a pattern."""
    if topic.startswith("^") or (_TOPIC.fullmatch(topic) and topic not in {".", ".."}):
        return ""
    return f"{topic!r} cannot be a topic: expected letters, digits, ., _ and -, 249 at most"


def group_of(settings: Settings) -> str:
    """The consumer group. Raises ConfigError when none is named."""
    if not settings.group:
        raise ConfigError("config.invalid", NO_GROUP, GROUP_FIX)
    return settings.group


_PORTS: Final = 65_535


def addresses(bootstrap: str) -> list[tuple[str, int]]:
    """Read `host:port,host:port`. Raises ConfigError."""
    found: list[tuple[str, int]] = []
    for one in filter(None, (part.strip() for part in bootstrap.split(","))):
        host, _, port = one.rpartition(":")
        if "://" in one:
            what = f"bootstrap: {one!r} is not host:port: leave {one.partition('://')[0]}:// out, and set security"
            raise ConfigError("config.invalid", what)
        if not host or not port.isdigit() or not 0 < int(port) <= _PORTS:
            raise ConfigError("config.invalid", f"bootstrap: {one!r} is not host:port")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            what = f"bootstrap: {one!r}: write an IPv6 address in brackets, [{host}]:{port}"
            raise ConfigError("config.invalid", what)
        found.append((host.strip("[]"), int(port)))
    if not found:
        raise ConfigError("config.invalid", "bootstrap: no broker is named")
    return found


_COMMITS: Final = "only settled records may be committed"
_PLACE: Final = "use start_from and on_offset_lost; if the client itself jumped, rows would be lost"
_TLS: Final = "set security, ca, cert, key and key_password: those are checked, explained and renewed"
_SASL: Final = "set security, sasl_mechanism and what belongs to it: those are checked and explained"
_BYTES: Final = "rows are made from unchanged bytes"
_OWNED: Final = {
    "enable_auto_commit": _COMMITS,
    "auto_commit_interval_ms": _COMMITS,
    "enable_auto_offset_store": _COMMITS,
    "auto_offset_reset": _PLACE,
    "isolation_level": "rows of aborted transactions must not be read",
    "key_deserializer": _BYTES,
    "value_deserializer": _BYTES,
    "bootstrap_servers": "set bootstrap",
    "metadata_broker_list": "set bootstrap",
    "group_id": "set group",
    "group_protocol": "draining before partitions are revoked needs the classic protocol",
    "enable_partition_eof": "the end of a partition says where the markers of transactions end",
    "security_protocol": _TLS,
    "fetch_max_bytes": "set fetch_bytes",
    "max_partition_fetch_bytes": "set partition_bytes",
    "fetch_message_max_bytes": "set partition_bytes",
    "queued_max_messages_kbytes": "set partition_bytes",
    "session_timeout_ms": "set session_timeout_ms of the source: its other times depend on it",
    "heartbeat_interval_ms": "set heartbeat_interval_ms of the source",
    "rebalance_timeout_ms": "set rebalance_timeout_ms of the source: the drain has to fit in",
    "max_poll_interval_ms": "set max_poll_interval_ms of the source",
    "request_timeout_ms": "set request_timeout_ms of the source",
    "client_rack": "set client_rack of the source",
    "plugin_library_paths": "code cannot come from a configuration",
}


_OF_TLS: Final = re.compile(r"ssl|tls|https|certificate")
"""What says how a server is known to be the right one, whatever a client calls it:
`enable.ssl.certificate.verification` switches that off."""
_OF_SASL: Final = re.compile(r"sasl|oauth")


def client_settings(settings: Settings) -> dict[str, str | int | float | bool]:
    """Answer the free settings of the client, names with underscores. ConfigError for one that lmstream owns."""
    found = {name.replace(".", "_"): value for name, value in settings.client.items()}
    wrong = []
    for name, value in found.items():
        low = name.lower()
        why = _OWNED.get(low) or (_TLS if _OF_TLS.search(low) else _SASL if _OF_SASL.search(low) else _callback(name))
        if low == "check_crcs" and value is not True:
            why = "a damaged record must not become rows"
        if why:
            wrong.append(ConfigError("config.invalid", f"source.client.{name} is set by lmstream: {why}"))
    refuse(wrong)
    return found


def _callback(name: str) -> str | None:
    return "functions cannot come from a configuration" if name.endswith(("_cb", "on_commit")) else None
