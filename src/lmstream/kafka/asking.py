"""What a source of Kafka can be asked beside its member of the group, whichever client that has."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any, Final

from lmstream.abilities import Check
from lmstream.behind import Look, Retention
from lmstream.errors import REASONS, LmstreamError
from lmstream.interfaces import Standing
from lmstream.kafka.settings import Settings, addresses
from lmstream.kafka.tls import Tls
from lmstream.kafka.topics import Wanted
from lmstream.members import FORMER_GROUP, NAMED, Fellow, fellows
from lmstream.model import TopicPartition
from lmstream.settings import human

DAYS: Final = 30
"""Days before its end from which a client certificate is a warning."""
_PATIENCE: Final = 20.0  # seconds for what the brokers know of group and topics


class Asked:
    """Questions to the brokers, by aiokafka and on connections of their own. They read no record, commit nothing, and
    join no group."""

    settings: Settings
    lanes: int | None
    """See abilities.Laned."""

    def standings(self) -> Mapping[TopicPartition, Standing]:
        """Where the group stands in each partition that is ours."""
        raise NotImplementedError

    async def look(self, start: Mapping[TopicPartition, int], /) -> Mapping[TopicPartition, Look]:
        """Where these partitions begin and end, and what waits in them. Raises ConfigError or SourceError."""
        from lmstream.kafka.lag import look  # noqa: PLC0415 - an extra

        return await look(self.settings, start)

    async def retentions(self) -> Mapping[str, Retention]:
        """How long each topic keeps records; nothing where brokers do not say. Raises what the client raises."""
        from lmstream.kafka.admin import admin, retentions  # noqa: PLC0415 - an extra

        topics = {tp.topic for tp in self.standings()} | Wanted(self.settings.topics).named
        async with admin(self.settings, Tls(self.settings)) as client:
            return await retentions(client, sorted(topics))

    async def members(self) -> list[Fellow]:
        """Who is in the group now. Raises what the client raises."""
        from lmstream.kafka.admin import admin, members  # noqa: PLC0415 - an extra

        async with admin(self.settings, Tls(self.settings)) as client:
            return await members(client, self.settings.group)

    async def questions(self, workers: int, /) -> list[Check]:
        """Ask about certificate, brokers, topics, group and retention, as `validate --connect` does."""
        from lmstream.kafka import connection  # noqa: PLC0415 - an extra

        settings = self.settings
        try:
            tls = Tls(settings)
            context = await tls.load()
        except LmstreamError as e:
            return [Check.refused("credentials" if e.reason == "source.sasl" else "certificate", e)]
        checks = [_certificate(tls.expiry) if context else Check("certificate", "ok", f"none: {settings.security}")]
        checks += await asyncio.gather(*(_broker(settings, tls, *each) for each in addresses(settings.bootstrap)))
        try:
            consumer = await connection.connect(settings, group=False, tls=tls)
        except LmstreamError as e:
            return [*checks, Check.refused("topics", e)]
        try:
            topics = connection.topics_of(consumer, settings)
            counts = {topic: len(consumer.partitions_for_topic(topic) or ()) for topic in topics}
        finally:
            await connection.stop(consumer)
        checks += [Check(f"topic {topic}", "ok", f"{count:,} partitions") for topic, count in counts.items()]
        fix = "the run waits for it: check its name and the permission to see it"
        missing = Wanted(settings.topics).missing(topics)
        checks += [Check(f"topic {topic}", "warning", "there is none", fix) for topic in missing]
        if (few := sum(counts.values())) < workers:
            what = f"{workers} workers share {few} partitions"
            checks.append(Check("workers", "warning", what, "the others are idle: lower run.workers"))
        places = [(topic, partition) for topic, count in counts.items() for partition in range(count)]
        return [*checks, *await _group(settings, tls, topics, places, self.lanes)]


async def _broker(settings: Settings, tls: Tls, host: str, port: int) -> Check:
    from lmstream.kafka.connection_probe import probe  # noqa: PLC0415 - an extra
    from lmstream.kafka.sasl_probe import probe_sasl  # noqa: PLC0415 - an extra

    try:
        seconds = settings.startup_timeout_ms / 1000
        await probe(host, port, tls.context, client_cert=bool(settings.cert), lookup=seconds)
        if tls.sasl.used:
            await probe_sasl(host, port, tls)
    except LmstreamError as e:
        return Check.refused(f"broker {host}:{port}", e)
    known = f", and identifies this client by {tls.sasl.name}" if tls.sasl.used else ""
    return Check(f"broker {host}:{port}", "ok", "answers" + (" over TLS" if tls.context else "") + known)


async def _group(
    settings: Settings, tls: Tls, topics: tuple[str, ...], places: list[tuple[str, int]], lanes: int | None
) -> list[Check]:
    from aiokafka import TopicPartition as KafkaPartition  # noqa: PLC0415 - an extra
    from aiokafka.errors import KafkaError  # noqa: PLC0415 - an extra

    from lmstream.kafka.admin import admin, assignor, committed, members, retentions  # noqa: PLC0415 - as above

    name = f"group {settings.group or FORMER_GROUP}"
    partitions = [KafkaPartition(*place) for place in places]
    try:
        async with asyncio.timeout(_PATIENCE), admin(settings, tls) as client:
            group = settings.group or FORMER_GROUP
            commits = await committed(client, group, partitions) if partitions else {}
            former: Mapping[Any, int] = {}
            if partitions and not commits and group != FORMER_GROUP:
                with contextlib.suppress(KafkaError):  # an ACL need not name that group
                    former = await committed(client, FORMER_GROUP, partitions)
            others = await members(client, group)
            divided = await assignor(client, group) if others else ""
            kept = await retentions(client, topics)
    except Exception as e:  # noqa: BLE001 - whatever the client raises is the answer
        fix = "grant READ and DESCRIBE on group and topics, and DESCRIBE_CONFIGS on topics"
        code = REASONS["source.topic"].code
        return [Check(name, "failed", f"{code} {type(e).__name__}: {e}", fix, code)]
    checks = [_commits(settings.group, commits, former)]
    if others:
        what = f"{len(others)} now: {fellows(others)}"
        fix = "if they are not of this deployment, name another source.group: members of one group divide the topics"
        checks.append(Check(f"members of {name}", "warning", what, fix))
        checks += _lanes(name, divided, lanes)
    else:
        checks.append(Check(f"members of {name}", "ok", "none now"))
    return [*checks, *(Check(f"retention of {topic}", "ok", _kept(kept, topic)) for topic in topics)]


def _lanes(name: str, divided: str, lanes: int | None) -> list[Check]:
    """Whether this process can share the group with the members that it has now."""
    from lmstream.kafka.lane_assignor import NAME  # noqa: PLC0415 - as above

    ours = "" if lanes is None else f"{NAME}{lanes}"
    # Empty while the group divides them anew, and of brokers that do not say.
    if divided in {"", ours} or not (ours or divided.startswith(NAME)):
        return []
    code = REASONS["lake.lanes"].code
    theirs = f"{divided.removeprefix(NAME)} lanes" if divided.startswith(NAME) else f"no lanes ({divided})"
    said = f"{code} its members have {theirs}, and this process has {'none' if lanes is None else lanes}"
    fix = "stop all members, then start them with the same sink.lanes and sink.division: brokers let in no others"
    return [Check(f"lanes of {name}", "failed", said, fix, code)]


def _commits(group: str, commits: Mapping[Any, int], former: Mapping[Any, int]) -> Check:
    """What the group has committed, or, where it has nothing, the group that nobody had to name before."""
    if group and (commits or not former or group == FORMER_GROUP):
        where = f"it has {_placed(commits)}" if commits else "it has none in these topics"
        return Check(f"group {group}", "ok", f"its commits can be read: {where}")
    found = commits or former
    said = f"there are commits of the group {FORMER_GROUP}: {_placed(found)}" if found else "nothing is committed there"
    fix = f'to continue there, set source.group = "{FORMER_GROUP}"; another group begins at source.start_from'
    return Check(f"group {group or FORMER_GROUP}", "warning", said, fix)


def _placed(commits: Mapping[Any, int]) -> str:
    named = [f"{tp.topic}/{tp.partition} at {offset}" for tp, offset in sorted(commits.items())]
    more = len(named) - NAMED
    return ", ".join(named[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _kept(kept: Mapping[str, Retention], topic: str) -> str:
    if topic not in kept:
        return "unknown: the brokers do not report it (grant DESCRIBE_CONFIGS on the topic)"
    seconds, size, _ = kept[topic]
    by_size = "" if size is None else f", or {size:,} bytes of a partition if that is sooner"
    return (
        f"no limit of time{by_size}" if seconds is None else f"{human(seconds)}{by_size}: how long an outage may last"
    )


def _certificate(expiry: float | None) -> Check:
    if expiry is None:
        return Check("certificate", "ok", "no client certificate")
    left = (expiry - time.time()) / 86_400
    said = f"expires in {left:,.0f} days, on {time.strftime('%Y-%m-%d', time.gmtime(expiry))}"
    if left < DAYS:
        fix = "issue a new one and put it in place: it is read without a restart"
        return Check("certificate", "warning", said, fix)
    return Check("certificate", "ok", said)
