"""`lmstream dlq replay` and `purge`: what is done with dead letters, and not only shown."""

import asyncio
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from lmstream.abilities import InFolder
from lmstream.cli import terminal
from lmstream.cli.ending import conclude, counted
from lmstream.cli.flags import NO_ENGINE, NO_FILE, EngineFlags, FileFlags, Json
from lmstream.cli.letters import NOTHING, Letters, Which
from lmstream.cli.letters_into_lake import LandedLetters, replay_into_lake, told
from lmstream.cli.run import NO_SINK, PRINTS, SinkFlags, execute
from lmstream.config.validation import ORGANIZATION, PURGING, REPLAY
from lmstream.dead_letters.replay import Rehearsal, rehearse, remove_all
from lmstream.dead_letters.replay import replay as again
from lmstream.delivery import Settled
from lmstream.engine import Engine
from lmstream.errors import ConfigError
from lmstream.interfaces import Source
from lmstream.runtime import Progress


def replay(
    letters: Letters = None,
    /,
    *,
    yes: bool = False,
    purge_delivered: bool = False,
    as_json: Json = False,
    sink: SinkFlags = NO_SINK,
    which: Which = NOTHING,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Send dead letters through the engine again; without --yes only show what would happen.

    Rows get the ids they would have had. If a letter names rejected points, only those points become rows. Records
    that are refused again are dead-lettered in the same place, or in --dead-letters, which letters in a topic need.
    Nothing is deleted without --purge-delivered.

    Batches in the on-failure destination of a Kafka event source mapping are read like letters, from Lambda's documents
    in a folder or bucket. Such a document is deleted only when all of its records were delivered.

    Into a lake (sink.type s3) a letter is replayed once: only one that a claim lists, and only what has not landed.

    Parameters
    ----------
    yes
        Deliver.
    purge_delivered
        Delete each letter whose rows were all delivered.
    as_json
        Print one JSON object: the counts of what was sent, as `run --json` has them, or of what would be.
    """
    store, kept = which.opened(letters, engine)
    if sink.dead_letters is not None:
        kept = {}  # the settings of one kind of place are none of another's
    overrides: dict[str, Any] = {**kept, **sink.overrides(), "source.type": "files", "source.paths": ("letters",)}
    config = engine.load(overrides, [ORGANIZATION] if not yes else PURGING if purge_delivered else REPLAY)
    if not yes:
        return _rehearsed(asyncio.run(rehearse(store, which.filters, Engine(config.engine))), as_json=as_json)
    if as_json and config.need("sink").traits.prints:
        raise ConfigError("config.invalid", PRINTS)
    if not kept and sink.dead_letters is None:
        raise ConfigError("config.invalid", "records that are refused again need a place: give --dead-letters FOLDER")
    summaries: list[Progress] = []
    landed: list[LandedLetters] = []

    into_lake = config.need("sink").traits.claims

    async def run(source: Source, on_settled: Settled) -> None:
        async def execute_these(these: Source) -> None:
            summaries.append(await execute(config, these, on_settled))

        if into_lake:  # a folder takes letters of files too, whose records have no claims of their own
            rest = execute_these if isinstance(config.need("sink").settings, InFolder) else None
            landed.append(await replay_into_lake(config, source, on_settled, terminal.say, rest))
        else:
            await execute_these(source)

    removed = asyncio.run(again(store, which.filters, run, purge=purge_delivered, say=terminal.say))
    if purge_delivered:
        terminal.say(f"{removed:,} letters removed")
    by_claims = landed[:1] if landed and (landed[0].letters or not summaries) else []
    others = summaries[:1] if summaries and (summaries[0].records or not by_claims) else []
    code = max(*(told(each) for each in by_claims), *(conclude(each, config) for each in others), 0)
    if as_json:
        sent = {name: n for each in others for name, n in counted(each).items()}
        sent |= {name: n for each in by_claims for name, n in msgspec.to_builtins(each).items()}
        with terminal.read_or_not():
            terminal.print_json({"sent": True, **sent, "letters_removed": removed}, indent=None)
    return code


def purge(
    letters: Letters = None,
    /,
    *,
    yes: bool = False,
    every: Annotated[bool, Parameter(name="--all")] = False,
    as_json: Json = False,
    which: Which = NOTHING,
    file: FileFlags = NO_FILE,
) -> int:
    """Delete dead letters permanently; without --yes only show which.

    Parameters
    ----------
    yes
        Delete them.
    every
        Delete all letters: required if there is no filter.
    as_json
        Print one JSON object: how many, and the first places of those that would be deleted.
    """
    if which.filters.given == every:
        raise ConfigError("config.invalid", "purge needs filters such as --reason or --until, or --all without any")
    done = asyncio.run(remove_all(which.store(letters, file), which.filters, yes=yes, say=terminal.say))
    if as_json:
        terminal.print_json({"removed": yes, "letters": done.letters, "places": done.named}, indent=None)
    for place in () if as_json else done.named:
        print(terminal.cell(place, limit=1000))
    what = "letters removed" if yes else "letters would be deleted; give --yes to delete them"
    terminal.say(f"{done.letters:,} {what}")
    return 0


def _rehearsed(done: Rehearsal, *, as_json: bool) -> int:
    if as_json:
        terminal.print_json({"sent": False, **msgspec.to_builtins(done)}, indent=None)
    terminal.say(f"{done.letters:,} letters would give {done.rows:,} rows; give --yes to send them")
    for reason, count in sorted(done.refused.items()):
        terminal.say(f"{count:,} would be refused again: {terminal.cell(reason)}")
    return 0
