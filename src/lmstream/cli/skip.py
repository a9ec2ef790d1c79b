"""`lmstream skip`: let a consumer group skip what it cannot read in one partition."""

import asyncio
import re
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter, validators

from lmstream.cli import terminal
from lmstream.cli.flags import NO_CLUSTER, ClusterFlags, Json
from lmstream.cli.kafka import cluster_settings
from lmstream.config.validation import GROUP
from lmstream.errors import ConfigError
from lmstream.kafka.skip import Skipped
from lmstream.kafka.skip import skip as commit

_PLACE: Final = re.compile(r"([A-Za-z0-9._-]{1,249})/(\d{1,9})")


def skip(
    partition: str,
    /,
    *,
    to: Annotated[int, Parameter(validator=validators.Number(gte=0))],
    group: str | None = None,
    dry_run: bool = False,
    as_json: Json = False,
    cluster: ClusterFlags = NO_CLUSTER,
) -> int:
    """Commit a later offset for a group that is stopped, so that it continues after what it cannot read.

    The records between are not read and get no dead letter; they stay in the topic until retention deletes them. The
    offset never goes back. Kafka refuses while the group has members: stop all of them first.

    Parameters
    ----------
    partition
        Where, as TOPIC/PARTITION.
    to
        The offset to continue at.
    group
        Consumer group. Default: that of the configuration.
    dry_run
        Only show what would be skipped.
    as_json
        Print what was skipped as JSON.
    """
    place = _PLACE.fullmatch(partition)
    if not place:
        raise ConfigError("config.invalid", f"{partition!r} is not TOPIC/PARTITION, as in lm.metrics.otlp/0")
    settings = cluster_settings(cluster, place[1], group=group, looks=[GROUP])
    done = asyncio.run(commit(settings, int(place[2]), to, dry_run=dry_run))
    with terminal.read_or_not():
        if as_json:
            terminal.print_json(msgspec.to_builtins(done), indent=None)
        else:
            print(_told(done))
    return 0


def _told(done: Skipped) -> str:
    where = f"{done.topic}/{done.partition}"
    if not done.offsets:
        return f"group {done.group} is at {done.next} of {where}: nothing to skip"
    what = f"{done.offsets:,} offsets, {done.first} to {done.next - 1}, of {where}"
    if not done.committed:
        return f"group {done.group} would skip {what}; nothing was changed"
    return (
        f"group {done.group} skips {what} and continues at {done.next}; the records stay in the topic until retention "
        "deletes them"
    )
