"""A Kafka cluster that answers with errors on request: librdkafka's own mock, out of the confluent-kafka wheel.

A second aiokafka member of a group is refused while the first one joins: use one. Nothing is on disk.
"""

import asyncio
import ctypes
import importlib.util
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lmstream.errors import ConfigError, SourceError
from lmstream.lab.part import Part

API_KEYS: Final = {
    "Produce": 0,
    "Fetch": 1,
    "ListOffsets": 2,
    "Metadata": 3,
    "OffsetCommit": 8,
    "OffsetFetch": 9,
    "FindCoordinator": 10,
    "JoinGroup": 11,
    "Heartbeat": 12,
    "LeaveGroup": 13,
    "SyncGroup": 14,
    "ApiVersions": 18,
}
"""The requests that can be made to fail, by their names in Kafka's protocol."""

_PRODUCER: Final = 0  # rd_kafka_type_t: the handle that carries the cluster has to be of some type
_TEXT: Final = 512
_NAMES: Final = {number: name for name, number in API_KEYS.items()}


class _Pointer(ctypes.c_void_p):
    """A pointer of librdkafka. Of a type of its own it comes and goes as it is, where c_void_p would become an int."""


class MockKafka(Part):
    """`async with MockKafka(brokers=3) as kafka: kafka.push_errors("Heartbeat", 14)`; brokers count from 1.

    Methods return when the cluster has taken the order, in well under a millisecond. Errors are Kafka's own codes, one
    for each request of that kind, first in first out; 0 lets a request pass.
    """

    def __init__(self, brokers: int = 1) -> None:
        self.brokers = brokers
        self.bootstrap: str = ""
        """`host:port` of all brokers, comma-separated."""
        self._library: Any = None
        self._handle: _Pointer | None = None
        self._cluster: _Pointer | None = None

    async def start(self) -> None:
        """Start the brokers on free ports of 127.0.0.1. ConfigError when confluent-kafka is not installed."""
        self._library = library = _library()
        text, size = ctypes.create_string_buffer(_TEXT), ctypes.c_size_t(_TEXT)
        configuration = library.rd_kafka_conf_new()
        # Its threads say on stderr whatever a test does to the brokers.
        library.rd_kafka_conf_set(configuration, b"log_level", b"0", text, size)
        self._handle = library.rd_kafka_new(_PRODUCER, configuration, text, size)
        if not self._handle:
            library.rd_kafka_conf_destroy(configuration)
            raise SourceError("source.unreachable", f"the mock cluster: {text.value.decode(errors='replace')}")
        self._cluster = library.rd_kafka_mock_cluster_new(self._handle, self.brokers)
        if not self._cluster:
            await self.close()
            raise SourceError("source.unreachable", "the mock cluster does not start")
        self.bootstrap = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        # Kafka's 3 s for late members; here every test would wait for them.
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        library.rd_kafka_mock_start_request_tracking(self._cluster)

    async def close(self) -> None:
        """Stop all brokers. Safe to call twice."""
        cluster, self._cluster = self._cluster, None
        handle, self._handle = self._handle, None
        if cluster:
            await asyncio.to_thread(self._library.rd_kafka_mock_cluster_destroy, cluster)
        if handle:
            await asyncio.to_thread(self._library.rd_kafka_destroy, handle)

    # Topics

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Create a topic, replicated to all brokers."""
        self._do("topic_create", name.encode(), partitions, self.brokers)

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its records. Committed offsets stay, as with a real broker for a while."""
        self._do("topic_delete", name.encode())

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Delete the records before an offset, as retention does."""
        self._do("partition_delete_records", topic.encode(), partition, ctypes.c_int64(before))

    # Faults

    def push_errors(self, api: str, *codes: int) -> None:
        """Let the next requests of this kind fail with these codes, one after the other."""
        if api not in API_KEYS:
            raise ConfigError("config.invalid", f"no request {api!r}; known: {', '.join(API_KEYS)}")
        array = (ctypes.c_int * len(codes))(*codes)
        self._call("push_request_errors_array", ctypes.c_int16(API_KEYS[api]), ctypes.c_size_t(len(codes)), array)

    def clear_errors(self, api: str) -> None:
        """Forget what was pushed for this kind of request and has not been used."""
        self._call("clear_request_errors", ctypes.c_int16(API_KEYS[api]))

    def broker_down(self, broker: int) -> None:
        """Close the connections of a broker and refuse new ones."""
        self._do("broker_set_down", broker)

    def broker_up(self, broker: int) -> None:
        """Let a broker answer again, on its old port."""
        self._do("broker_set_up", broker)

    def rtt(self, broker: int, seconds: float) -> None:
        """Delay every answer of a broker."""
        self._do("broker_set_rtt", broker, int(seconds * 1000))

    def leader(self, topic: str, partition: int, broker: int) -> None:
        """Move the leader of a partition; -1 leaves it without one."""
        self._do("partition_set_leader", topic.encode(), partition, broker)

    def follower(self, topic: str, partition: int, broker: int) -> None:
        """Send consumers of a partition to this broker, as a rack-aware cluster does; -1 ends it."""
        self._do("partition_set_follower", topic.encode(), partition, broker)

    def coordinator(self, group: str, broker: int) -> None:
        """Move the coordinator of a consumer group."""
        self._do("coordinator_set", b"group", group.encode(), broker)

    def requests(self) -> Counter[str]:
        """Count the requests since the start or the last call, by name; others than API_KEYS by number."""
        count = ctypes.c_size_t(0)
        found = self._call("get_requests", ctypes.byref(count))
        name = self._library.rd_kafka_mock_request_api_key
        keys = [name(found[n]) for n in range(count.value)]
        self._library.rd_kafka_mock_request_destroy_array(found, count)
        self._call("clear_requests")
        return Counter(_NAMES.get(key, str(key)) for key in keys)

    def _call(self, name: str, *arguments: Any) -> Any:
        if not self._cluster:
            raise SourceError("source.unreachable", "the mock cluster is not started")
        function: Callable[..., Any] = getattr(self._library, f"rd_kafka_mock_{name}")
        return function(self._cluster, *arguments)

    def _do(self, name: str, *arguments: Any) -> None:
        code = self._call(name, *arguments)
        if code:
            what = self._library.rd_kafka_err2str(code).decode(errors="replace")
            raise SourceError("source.unreachable", f"the mock cluster refuses {name}{arguments}: {what}")


def _library() -> Any:
    """Load librdkafka as the wheel brings it: the functions of the mock are exported, and in no Python module."""
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise ConfigError.missing("MockKafka", "confluent", package="confluent-kafka")
    package = Path(spec.origin).parent
    places = (package.parent / "confluent_kafka.libs", package / ".dylibs")
    found = sorted(file for place in places for file in place.glob("librdkafka[.-]*"))
    if not found:
        raise ConfigError("config.extra", "MockKafka needs the wheel of confluent-kafka: this build has no librdkafka")
    try:
        library = ctypes.CDLL(str(found[0]))
        library.rd_kafka_mock_cluster_new  # noqa: B018 - of a library without the mock it raises
    except (OSError, AttributeError) as e:
        raise ConfigError("config.extra", f"MockKafka cannot use {found[0].name}: {e}") from e
    for name in ("conf_new", "new", "mock_cluster_new"):
        getattr(library, f"rd_kafka_{name}").restype = _Pointer
    for name in ("err2str", "mock_cluster_bootstraps"):
        getattr(library, f"rd_kafka_{name}").restype = ctypes.c_char_p
    library.rd_kafka_mock_get_requests.restype = ctypes.POINTER(_Pointer)
    library.rd_kafka_mock_request_api_key.restype = ctypes.c_int16
    return library
