"""Settings of Kafka for verbs that look at a topic or publish to it, from their flags."""

from collections.abc import Sequence
from typing import Any

from lmstream.cli.flags import BrokerFlags, ClusterFlags, given, of_kafka
from lmstream.config import Config
from lmstream.config.config import Look
from lmstream.errors import ConfigError
from lmstream.kafka.settings import Settings


def settings_of(config: Config) -> Settings:
    """Answer the settings of the Kafka source, which flags, environment or file must have given. Raises ConfigError.

    Verbs read by aiokafka, whatever client the run has: settings of another client are left out.
    """
    part = config.need("source")
    if not isinstance(part.settings, Settings):
        raise ConfigError("config.invalid", f"source.type is {part.name!r}, expected kafka")
    if part.settings.client and part.name == "kafka":
        from lmstream.kafka.connection import checked

        checked(part.settings)
    return part.settings


def cluster_settings(
    cluster: ClusterFlags, *topics: str, group: str | None = None, looks: Sequence[Look] = ()
) -> Settings:
    """Answer the settings of the Kafka source by flags, environment and file; they have to pass `looks`."""
    return settings_of(cluster.load(client_overrides(cluster, *topics, group=group), looks))


def client_overrides(broker: BrokerFlags, *topics: str, group: str | None = None) -> dict[str, Any]:
    """Answer the settings that these flags stand for, for a source that is Kafka whatever the file says.

    Raises ConfigError for a pattern: a verb that reads none of it would say that nothing is there.
    """
    for topic in topics:
        if topic.startswith("^"):
            what = f"--topic {topic}: a pattern is for run, lag and validate; name one topic"
            raise ConfigError("config.invalid", what)
    named = given({"source.topics": topics or None, "source.group": group or None})
    return {"source.type": of_kafka, **named, **broker.overrides()}
