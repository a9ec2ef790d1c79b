"""Make topics and ACLs by librdkafka, which is the one client here that can. For verbs, never for a run."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka import admin as _admin

from lmstream.errors import SourceError
from lmstream.kafka.acls import Grant
from lmstream.kafka.librdkafka import secured
from lmstream.kafka.settings import Settings
from lmstream.kafka.tls import Tls

kafka: Final[Any] = _admin
"""Untyped: what the module offers is more than its stubs export."""
_KINDS: Final = {
    "cluster": kafka.ResourceType.BROKER,
    "topic": kafka.ResourceType.TOPIC,
    "group": kafka.ResourceType.GROUP,
}
"""librdkafka calls the cluster a broker in ACLs."""
_SECONDS: Final = 30.0


@contextlib.asynccontextmanager
async def administering(settings: Settings) -> AsyncIterator["Admin"]:
    """A client for the time of the block. Raises ConfigError for certificates, SourceError when nobody answers."""
    tls = Tls(settings)
    await tls.load()
    with contextlib.ExitStack() as files:
        yield Admin(
            kafka.AdminClient(
                {
                    "bootstrap.servers": settings.bootstrap,
                    "client.id": "lmstream",
                    "log_level": 0,
                    **secured(tls, files),
                }
            )
        )


class Admin:
    """Questions and requests to one cluster."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def grants(self) -> set[Grant]:
        """All ACLs that allow something by an exact name, from any host."""
        kind, pattern = kafka.ResourceType.ANY, kafka.ResourcePatternType.ANY
        every = kafka.AclBindingFilter(
            kind, None, pattern, None, None, kafka.AclOperation.ANY, kafka.AclPermissionType.ANY
        )
        found = await _answer(self._client.describe_acls(every, request_timeout=_SECONDS))
        names = {each: name for name, each in _KINDS.items()}
        return {
            Grant(each.principal, _told(each.operation), names[each.restype], each.name)  # type: ignore[arg-type]
            for each in found
            if each.restype in names
            and each.resource_pattern_type == kafka.ResourcePatternType.LITERAL
            and each.permission_type == kafka.AclPermissionType.ALLOW
            and each.host == "*"
        }

    async def may_see(self, topic: str) -> bool:
        """Whether this client's own certificate may look at a topic, which need not exist."""
        (future,) = self._client.describe_topics(TopicCollection([topic]), request_timeout=_SECONDS).values()
        try:
            await asyncio.to_thread(future.result, _SECONDS)
        except KafkaException as error:
            return bool(error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART)
        return True

    async def allow(self, grants: Iterable[Grant]) -> None:
        """Make ACLs; one that is there already stays as it is."""
        listed = [kafka.AclBinding(*_parts(each)) for each in grants]
        for future in self._client.create_acls(listed, request_timeout=_SECONDS).values():
            await _answer(future)

    async def forbid(self, grants: Iterable[Grant]) -> None:
        """Remove exactly these ACLs."""
        filters = [kafka.AclBindingFilter(*_parts(each)) for each in grants]
        for future in self._client.delete_acls(filters, request_timeout=_SECONDS).values():
            await _answer(future)

    async def topic(self, name: str) -> tuple[int, int, dict[str, str]] | None:
        """Partitions, copies and what was set of a topic; None when there is none."""
        known = (await _told_by(lambda: self._client.list_topics(timeout=_SECONDS))).topics
        if name not in known:
            return None
        partitions = known[name].partitions
        copies = min(len(each.replicas) for each in partitions.values())
        asked = [kafka.ConfigResource(kafka.ConfigResource.Type.TOPIC, name)]
        entries = await _only(self._client.describe_configs(asked, request_timeout=_SECONDS))
        return len(partitions), copies, {key: entry.value for key, entry in entries.items()}

    async def create(self, name: str, partitions: int, copies: int, configs: Mapping[str, str]) -> None:
        """Make a topic."""
        topic = kafka.NewTopic(name, partitions, copies, config=dict(configs))
        await _only(self._client.create_topics([topic], request_timeout=_SECONDS))

    async def grow(self, name: str, partitions: int) -> None:
        """Add partitions up to so many."""
        wanted = [kafka.NewPartitions(name, partitions)]
        await _only(self._client.create_partitions(wanted, request_timeout=_SECONDS))

    async def configure(self, name: str, configs: Mapping[str, str]) -> None:
        """Set these settings of a topic, and leave its others."""
        put = kafka.AlterConfigOpType.SET
        entries = [kafka.ConfigEntry(key, value, incremental_operation=put) for key, value in configs.items()]
        resource = kafka.ConfigResource(kafka.ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        await _only(self._client.incremental_alter_configs([resource], request_timeout=_SECONDS))


def _parts(grant: Grant) -> tuple[Any, ...]:
    operation = next(each for each in kafka.AclOperation if _told(each) == grant.operation)
    kind, pattern = _KINDS[grant.resource], kafka.ResourcePatternType.LITERAL
    return kind, grant.name, pattern, grant.principal, "*", operation, kafka.AclPermissionType.ALLOW


def _told(operation: Any) -> str:
    """Kafka's word of an operation: CLUSTER_ACTION is ClusterAction."""
    return "".join(part.capitalize() for part in operation.name.split("_"))


async def _only(futures: Mapping[Any, Any]) -> Any:
    (future,) = futures.values()
    return await _answer(future)


async def _answer(future: Any) -> Any:
    return await _told_by(lambda: future.result(_SECONDS))


async def _told_by(ask: Any) -> Any:
    try:
        return await asyncio.to_thread(ask)
    except (KafkaException, TimeoutError) as error:
        text = error.args[0].str() if error.args and hasattr(error.args[0], "str") else str(error) or "no answer"
        raise SourceError("source.unreachable", f"the brokers say: {text}") from error
