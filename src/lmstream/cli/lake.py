"""`lmstream lake`: objects of a lake that are missing made again, and small ones made large."""

import asyncio
import re
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter, validators

from lmstream.cli import terminal
from lmstream.cli.flags import NO_CLUSTER, NO_FILE, ClusterFlags, FileFlags, Json
from lmstream.cli.kafka import settings_of
from lmstream.cli.tables import Column, Wide, table
from lmstream.config import Config
from lmstream.config.claimed_files import ClaimedFiles, is_of_files
from lmstream.config.lake_tools import LakeTools, lake_tools
from lmstream.errors import ConfigError
from lmstream.kafka.claimed_offsets import ClaimedOffsets
from lmstream.lake.again import Read
from lmstream.lake.paths import MOST, TooManyError, compactable
from lmstream.lake.repair import Repaired
from lmstream.settings import MIB
from lmstream.sources.files import Settings as Files

PARTIAL: Final = 4
_CLAIM: Final = re.compile(r"([A-Za-z0-9._-]{1,249})/([A-Za-z0-9._-]{1,200})/(\d{1,19})")
_OF_CLAIMS: Final = (
    Column("topic", 2, "id"),
    Column("lane", 3, "id"),
    Column("sequence", 1, "whole"),
    Column("objects", 8, "count"),
    Column("missing", 5, "count"),
    Column("short", 6, "count"),
    Column("made", 7, "count"),
    Column("rows", 9, "count"),
    Column("lost", 4, "count"),
)
_OF_PATHS: Final = (
    Column("path", 1, "id"),
    *(Column(name, kind="count") for name in ("objects", "rows", "replaced", "made", "left")),
)


def repair(
    *,
    claim: tuple[str, ...] = (),
    files: tuple[str, ...] = (),
    landed: Path | None = None,
    yes: bool = False,
    wide: Wide = False,
    as_json: Json = False,
    cluster: ClusterFlags = NO_CLUSTER,
) -> int:
    """Make objects again that a claim names and that are missing or short; without --yes only show which.

    Their records are read again, from the topic or from the same files, by the settings of the claim. What is there
    is left alone, and no row is written twice, also while members run. Exit 4 if rows are lost: their records are gone.

    Parameters
    ----------
    claim
        Claim to repair, as TOPIC/LANE/NUMBER; may be repeated. Default: all of the lake.
    files
        File or folder that a run landed; may be repeated. All files of that run, under whatever names.
    landed
        Folder of the lake, instead of the sink of the settings.
    yes
        Repair them.
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print one JSON object per claim.
    """
    of_files = {"source.type": "files", "source.paths": files} if files else {}
    config = cluster.load(cluster.overrides() | of_files | _in_folder(landed))
    found = asyncio.run(_repair(config, [_claim(each) for each in claim], dry=not yes))
    show_repaired(found, wide=wide, as_json=as_json)
    if not yes and found:
        terminal.say(f"{len(found):,} claims would be repaired; give --yes to repair them")
    return PARTIAL if any(each.lost for each in found) else 0


def compact(
    path: str = "",
    /,
    *,
    size: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=512))] = 64,
    landed: Path | None = None,
    yes: bool = False,
    wide: Wide = False,
    as_json: Json = False,
    file: FileFlags = NO_FILE,
) -> int:
    """Put small objects of one path together; without --yes only show which.

    Their names stay taken, by objects without rows. While a path is compacted a query may read rows twice, never
    miss any: compact hours that are over. What was begun and not finished is finished first. Exit 4 if
    objects were left alone because their rows are not those of their claim.

    Parameters
    ----------
    path
        Beginning of the paths, as in acme/2026-11-29. Default: all of the lake.
    size
        Largest object that is made, in MiB.
    landed
        Folder of the lake, instead of the sink of the settings.
    yes
        Compact them.
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print one JSON object per path.
    """
    found = asyncio.run(_compact(file.load(_in_folder(landed)), path, size * MIB, dry=not yes))
    if as_json:
        terminal.print_lines(found)
    else:
        table(_OF_PATHS, [[each[head.name] for head in _OF_PATHS] for each in found], wide=wide)
    if not yes and found:
        terminal.say(f"{len(found):,} paths have several objects; give --yes to compact them")
    return PARTIAL if any(each["left"] for each in found) else 0


def show_repaired(found: list[Repaired], *, wide: bool, as_json: bool) -> None:
    """Print what a repair found and did, a claim each."""
    if as_json:
        terminal.print_lines(found)
    else:
        table(_OF_CLAIMS, [[getattr(each, head.name) for head in _OF_CLAIMS] for each in found], wide=wide)


def _in_folder(landed: Path | None) -> dict[str, Any]:
    return {} if landed is None else {"sink.type": "local", "sink.root": str(landed)}


def _claim(text: str) -> tuple[str, str, int]:
    if not (found := _CLAIM.fullmatch(text)):
        raise ConfigError("config.invalid", f"--claim {text}: expected TOPIC/LANE/NUMBER, as in lm.metrics.otlp/0/17")
    return found[1], found[2], int(found[3])


def of_topics(lanes: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The lanes whose records lie in topics; says how many others there are."""
    found = [lane for lane in lanes if not is_of_files(lane[0])]
    if len(found) < len(lanes):
        others = f"{len(lanes) - len(found):,} lanes are of files"
        terminal.say(f"{others}: `lmstream lake repair --files FILES` makes what they miss again")
    return found


async def _repair(config: Config, claims: list[tuple[str, str, int]], *, dry: bool) -> list[Repaired]:
    part = config.need("source")
    async with lake_tools(config) as lake:
        lanes = await lake.chains.lanes()
        read: Read
        if isinstance(part.settings, Files):
            read = files = ClaimedFiles(part.settings, config.run.workers, config.engine.limits)
            theirs = await files.lanes()
            lanes = [lane for lane in lanes if lane[0] in theirs]  # others are of other files, or of a topic
            if not lanes:
                terminal.say("no claim is of a run of exactly these files")
        else:
            read = ClaimedOffsets(settings_of(config))
            lanes = of_topics(lanes)
        repair = lake.repair(read)
        if claims:
            return [await repair.claim(await lake.claims.get(*each), dry=dry) for each in claims]
        return [each async for each in repair.all(lake.chains, lanes, dry=dry)]


async def _compact(config: Config, prefix: str, size: int, *, dry: bool) -> list[dict[str, Any]]:
    async with lake_tools(config) as lake:
        work = lake.compacting(size)
        try:
            paths = await compactable(lake.claims, lake.chains, prefix)
        except TooManyError:
            what = f"more than {MOST:,} objects lie below {prefix or 'all paths'}"
            raise ConfigError("config.invalid", what, "name a longer beginning of the paths") from None
        found = []
        for (path, extension), landed in sorted(paths.items()):
            gone = await _gone(lake, path)
            some = [each for each in landed if each.key not in gone]
            line: dict[str, Any] = {"path": path, "objects": len(some), "rows": sum(each.rows for each in some)}
            line |= {"replaced": 0, "made": 0, "left": 0}
            if not dry:
                done = await work.path(path, extension, landed)
                line |= {"replaced": done.replaced, "made": done.made, "left": len(done.left)}
                for key in done.left:
                    terminal.say(
                        f"{lake.requests.place(lake.claims.rows + key)}: left alone, it has not the rows of its claim"
                    )
            if len(some) > 1 or line["replaced"] or line["left"]:
                found.append(line)
        return found


async def _gone(lake: LakeTools, path: str) -> set[str]:
    return {each.key for compaction in await lake.compactions.chain(path) for each in compaction.replaces}
