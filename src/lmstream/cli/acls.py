"""`lmstream acls`: grant ACLs on the cluster, in an order in which no client is locked out."""

import asyncio
import secrets
from typing import Any

from msgspec import structs

from lmstream.cli import terminal
from lmstream.cli.flags import NO_CLUSTER, ClusterFlags, Json
from lmstream.cli.kafka import cluster_settings
from lmstream.cli.tables import Column, Wide, table
from lmstream.errors import ConfigError, SourceError
from lmstream.kafka.acls import Access, Grant, brokers_of
from lmstream.kafka.settings import group_of

Names = tuple[str, ...]


def acls(
    *,
    topic: str,
    group: str | None = None,
    brokers: Names = (),
    administrator: Names = (),
    reader: Names = (),
    collector: Names = (),
    undo: bool = False,
    yes: bool = False,
    wide: Wide = False,
    as_json: Json = False,
    cluster: ClusterFlags = NO_CLUSTER,
) -> int:
    """Grant the ACLs that lmstream's path needs; without --yes only show what would be done, and how to undo it.

    Parameters
    ----------
    topic
        Topic of the bundles.
    group
        Consumer group of the Pipe, the mapping or the container. Default: source.group.
    brokers
        Principal of the brokers' own certificates; may be repeated. Default for MSK: taken from --bootstrap.
    administrator
        Principal that may do everything, with its own certificate; may be repeated.
    reader
        Principal of lmstream's certificate; may be repeated.
    collector
        Principal of a LogicMonitor collector; may be repeated.
    undo
        Remove exactly these grants instead.
    yes
        Apply it.
    wide
        Show names in full, however wide the terminal is.
    as_json
        Print one JSON object per grant and line.
    """
    settings = cluster_settings(cluster, topic)
    if group is None and reader:
        group = group_of(settings)
    found = brokers_of(settings.bootstrap)
    access = Access(
        topic=topic,
        group=group or settings.group,
        brokers=brokers or ((found,) if found else ()),
        administrators=administrator,
        readers=reader,
        collectors=collector,
    )
    asyncio.run(_work(settings, access, undo=undo, yes=yes, wide=wide, as_json=as_json))
    return 0


async def _work(settings: Any, access: Access, *, undo: bool, yes: bool, wide: bool, as_json: bool) -> None:
    from lmstream.kafka.provisioning import administering

    steps = access.steps()
    async with administering(settings) as admin:
        there = await admin.grants()
        if undo:
            steps = undone(steps)
            # Brokers do not tell whether they are closed; MSK opens them again by its configuration at any time.
            terminal.say("First cluster.acls = false and `make deploy`: without ACLs such brokers deny everyone.")
        elif yes:
            await _try_administrators(admin, access)
        for name, grants in steps:
            todo = [each for each in grants if (each in there) == undo]
            _show(name, grants, there, wide=wide, as_json=as_json)
            if yes and todo:
                await (admin.forbid(todo) if undo else admin.allow(todo))
                await _settle(admin, todo, name, gone=undo)
        if not undo:
            _tell_undo(undone(steps))
    if not yes:
        terminal.say("Nothing was changed. Give --yes to apply it, step by step.")


def undone(steps: list[tuple[str, list[Grant]]]) -> list[tuple[str, list[Grant]]]:
    """Steps in the order in which they are taken back: those of brokers and administrators in one request.

    As long as the cluster has any ACL, only who one names may remove others.
    """
    (brokers, theirs), (administrators, own), *clients = steps
    last = [*theirs, *sorted(own, key=lambda each: each.resource == "cluster")]
    return [*clients[::-1], (f"{brokers}, {administrators}", last)]


async def _try_administrators(admin: Any, access: Access) -> None:
    """Make sure that this very certificate is an administrator's, while a mistake can still be taken back.

    Once the cluster has an ACL, only who may alter it can continue, or undo anything. Raises ConfigError.
    """
    probe = f"lmstream-probe-{secrets.token_hex(4)}"
    grants = [Grant(each, "All", "topic", probe) for each in access.administrators]
    await admin.allow(grants)
    try:
        await _settle(admin, grants, "a topic to try it with", gone=False)
        mine = await admin.may_see(probe)
    finally:
        await admin.forbid(grants)
    if not mine:
        raise ConfigError(
            "config.invalid",
            f"the certificate of this connection is not that of {', '.join(access.administrators)}: it would be "
            "locked out half-way; use the administrator's, or name the principal as the certificate has it",
        )


async def _settle(admin: Any, grants: list[Grant], step: str, *, gone: bool) -> None:
    """Continue only when the cluster shows the step: the next one relies on it. Raises SourceError."""
    for _ in range(20):
        there = await admin.grants()
        if all((each in there) != gone for each in grants):
            return
        await asyncio.sleep(0.25)
    raise SourceError(
        "source.unreachable", f"the cluster does not show the ACLs of {step}; the later steps were not done"
    )


def _show(step: str, grants: list[Grant], there: set[Grant], *, wide: bool, as_json: bool) -> None:
    if as_json:
        terminal.print_lines({**structs.asdict(each), "step": step, "there": each in there} for each in grants)
        return
    rows = [[g.principal, g.operation, g.resource, g.name, "yes" if g in there else "no"] for g in grants]
    heads = (Column("principal", 1, "id"), Column("may", 2, "whole"), "on", Column("name", 3, "id"), "there")
    table(heads, rows, title=step, wide=wide)


def _tell_undo(steps: list[tuple[str, list[Grant]]]) -> None:
    terminal.say("To undo, run the same command with --undo --yes; or one by one, in this order:")
    for _, grants in steps:
        for each in grants:
            terminal.say(f"  kafka-acls.sh --remove --force {each.command} --bootstrap-server ... --command-config ...")
