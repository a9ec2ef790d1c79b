"""Ask brokers by aiokafka's administration client: commits of a group, settings of topics. It changes nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import KafkaError, for_code

from lmstream.behind import Retention
from lmstream.kafka.settings import KafkaConnection, addresses
from lmstream.kafka.tls import Tls
from lmstream.members import Fellow

_LONGEST_MS: Final = 30_000  # for one request: a question is not worth the wait that a JoinGroup is
_PATIENCE: Final = 10.0  # seconds for a new cluster to make its topic of offsets, before which no group has commits
_AGAIN: Final = 0.2
_TIME, _SIZE, _POLICY, _SEGMENT = "retention.ms", "retention.bytes", "cleanup.policy", "segment.ms"


@contextlib.asynccontextmanager
async def admin(connection: KafkaConnection, tls: Tls) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for the time of the block. Raises ConfigError for addresses and certificates, and what the client
    raises."""
    addresses(connection.bootstrap)
    await tls.load()
    client = AIOKafkaAdminClient(
        bootstrap_servers=connection.bootstrap,
        client_id="lmstream",
        request_timeout_ms=min(connection.request_timeout_ms, _LONGEST_MS),
        **tls.options,
    )
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def committed(
    client: AIOKafkaAdminClient, group: str, partitions: Sequence[KafkaPartition]
) -> dict[KafkaPartition, int]:
    """Next offset of the group, for partitions that have one. Raises KafkaError."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _PATIENCE
    while True:
        try:
            offsets = await client.list_consumer_group_offsets(group, partitions=partitions)
        except KafkaError as error:
            if loop.time() > until or not error.retriable:
                raise
            await asyncio.sleep(_AGAIN)
        else:
            return {tp: each.offset for tp, each in offsets.items() if each.offset >= 0}


async def cluster(connection: KafkaConnection) -> str:
    """The id of the cluster; empty when it has none, or nobody says it: whoever needs an answer says what is wrong."""
    try:
        async with admin(connection, Tls(connection)) as client:
            return str((await client.describe_cluster())["cluster_id"] or "")
    except (KafkaError, OSError, LookupError, TypeError):
        return ""


async def members(client: AIOKafkaAdminClient, group: str) -> list[Fellow]:
    """Who is in a group now, and what each reads. Raises KafkaError.

    Groups of the newer protocol (KIP-848) show nobody here: lmstream's own members are of the classic one.
    """
    _, found = await _described(client, group)
    return [Fellow(client=name, host=host, reads=_reads(metadata, given)) for _, name, host, metadata, given in found]


async def assignor(client: AIOKafkaAdminClient, group: str) -> str:
    """How its members divide partitions: the name of their assignor; empty while it has none. Raises KafkaError."""
    return (await _described(client, group))[0]


async def _described(client: AIOKafkaAdminClient, group: str) -> tuple[str, list[tuple[Any, ...]]]:
    (answer,) = await client.describe_consumer_groups([group])
    # docs: kafka.apache.org/protocol, DescribeGroups: error, group, state, protocol type, protocol, members.
    ((code, _group, _state, _type, protocol, found, *_more),) = answer.groups
    if code:
        raise for_code(code)(group)
    return protocol or "", found


def _reads(metadata: bytes, assignment: bytes) -> dict[str, tuple[int, ...]]:
    """Partitions by topic; while the group rebalances only the topics. What another application writes there may be
    anything."""
    try:
        if assignment:
            given = ConsumerProtocolMemberAssignment.decode(assignment).assignment
            return {topic: tuple(sorted(partitions)) for topic, partitions in given}
        return dict.fromkeys(ConsumerProtocolMemberMetadata.decode(metadata).subscription, ())
    except Exception:  # noqa: BLE001 - whatever aiokafka raises for bytes of somebody else's
        return {}


async def topic_settings(client: AIOKafkaAdminClient, topics: Iterable[str], *names: str) -> dict[str, dict[str, str]]:
    """Those settings of each topic that have a value; no topic where brokers do not say, as they need not: it takes
    the right DescribeConfigs."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict.fromkeys(names)) for topic in topics]
    try:
        answers = await client.describe_configs(asked)
    except (KafkaError, NotImplementedError, ValueError, LookupError, TypeError):
        return {}
    resources = [resource for answer in answers for resource in answer.resources]
    # (error, message, kind, topic, entries), and an entry begins with name and value.
    found = {each[3]: {entry[0]: entry[1] for entry in each[4] if entry[0] in names and entry[1]} for each in resources}
    return {topic: values for topic, values in found.items() if values}


async def retentions(client: AIOKafkaAdminClient, topics: Iterable[str]) -> dict[str, Retention]:
    """How long each topic keeps records; no topic where brokers do not say."""
    found = await topic_settings(client, topics, _TIME, _SIZE, _POLICY, _SEGMENT)
    return {topic: _retention(values) for topic, values in found.items() if _TIME in values}


def _retention(values: Mapping[str, str]) -> Retention:
    # https://kafka.apache.org/documentation/#topicconfigs: -1 is no limit, and a topic that is compacted alone keeps
    # the last record of each key for ever.
    if "delete" not in values.get(_POLICY, "delete"):
        return Retention(None)
    ms, size = int(values[_TIME]), int(values.get(_SIZE, -1))
    kept = Retention(ms / 1000 if ms >= 0 else None, size if size >= 0 else None)
    return kept._replace(segment=int(values[_SEGMENT]) / 1000) if _SEGMENT in values else kept
