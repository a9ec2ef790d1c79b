"""`lmstream verify --repair` of a lake: objects that are missing, short or damaged are made again by their claims."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from lmstream.cli import terminal
from lmstream.cli.kafka import settings_of
from lmstream.cli.lake import of_topics
from lmstream.cli.verify_repair import confirmed
from lmstream.config import Config
from lmstream.config.lake_tools import lake_tools
from lmstream.errors import ConfigError
from lmstream.kafka.claimed_offsets import ClaimedOffsets
from lmstream.lake.repair import Repaired
from lmstream.storage.objects import Folder, Place
from lmstream.storage.set_right import aside
from lmstream.verification import Report


def refuse_unfit(config: Config, rows: Place) -> None:
    """Raise ConfigError for a configuration that is not of this lake."""
    part = config.need("sink")
    settings = part.settings
    if not part.traits.claims:
        what = f"--repair: claims of a lake lie at {rows.name}, and sink.type {part.name} does not land by claims"
        raise ConfigError("config.invalid", what, "give the configuration whose rows land there")
    if (bucket := getattr(settings, "bucket", "")) and (bucket, settings.rows) != (
        getattr(rows, "bucket", ""),
        getattr(rows, "prefix", ""),
    ):
        what = f"--repair: the lake of the configuration is s3://{bucket}/{settings.rows}, and --landed is {rows.name}"
        raise ConfigError("config.invalid", what, "give the configuration whose rows land there")
    settings_of(config)


def repair(
    look: Callable[[], Report], config: Config, rows: Place, *, yes: bool
) -> tuple[Report, list[str] | None, Report | None]:
    """Verify, repair by the claims if that is wanted, and verify again: both verdicts, and what was done."""
    before = look()
    damaged = list(before.lake.damaged) if before.lake is not None else []
    needed = asyncio.run(_repair(config, damaged, dry=True))
    if not needed:
        return before, None, None
    objects = sum(each.missing + each.short + each.damaged for each in needed)
    terminal.say(f"to repair: {objects:,} objects of {len(needed):,} claims are made again from the topic, each once")
    for key in damaged[:20]:
        terminal.say(f"to repair: {key} is put again as its claim says; it is kept beside, hidden, as it is")
    if not confirmed(yes=yes):
        return before, None, None
    said = _moved(rows, damaged)
    done = asyncio.run(_repair(config, damaged, dry=False))
    made, landed = sum(each.made for each in done), sum(each.rows for each in done)
    said.append(f"{made:,} objects with {landed:,} rows were made again by {len(done):,} claims; no row was put twice")
    if lost := sum(each.lost for each in done):
        said.append(f"{lost:,} rows can be made no more: their records are gone from the topic")
    return before, said, look()


async def _repair(config: Config, damaged: Sequence[str], *, dry: bool) -> list[Repaired]:
    async with lake_tools(config) as lake:
        work = lake.repair(ClaimedOffsets(settings_of(config)), damaged)
        return [each async for each in work.all(lake.chains, of_topics(await lake.chains.lanes()), dry=dry)]


def _moved(rows: Place, damaged: Sequence[str]) -> list[str]:
    """Damaged files out of the way: in a folder nothing is put in the place of another file."""
    said = []
    if isinstance(rows, Folder):
        for key in damaged:
            path = Path(rows.path) / key
            there = path.with_name(Path(aside(path.name, path.read_bytes())).name)
            path.rename(there)
            said.append(f"{path} lies as it was at {there}")
    return said
