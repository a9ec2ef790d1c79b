"""`lmstream test`: cases beside the configuration, a record each and what it has to become."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from lmstream.abilities import InTopic
from lmstream.cli import terminal
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, BrokerFlags, EngineFlags, Json
from lmstream.cli.inspect_kafka import fetched, wanted
from lmstream.cli.letters import Which
from lmstream.cli.masking import Masks
from lmstream.cli.pointed_at import read, records
from lmstream.dead_letters.filters import Filters
from lmstream.dead_letters.store import reading
from lmstream.engine import Engine
from lmstream.engine.held_value import unheld
from lmstream.errors import ConfigError, SourceError
from lmstream.model import Record
from lmstream.testing.cases import FOLDER, Case, Difference, cases, write

_SHOWN: Final = 20
"""Differences of one case that are printed; --json has all."""


def test(
    names: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    /,
    *,
    cases_in: Annotated[Path | None, Parameter(name="--cases")] = None,
    update: bool = False,
    record: str | None = None,
    name: str | None = None,
    about: str = "",
    mask: tuple[str, ...] = (),
    letters: str | None = None,
    as_json: Json = False,
    broker: BrokerFlags = NO_BROKER,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Run the cases beside a configuration: does each record still become what it has to? Exit 1 if not.

    --record makes a case of a record or dead letter; it expects what this configuration makes of it today. Correct
    NAME.expected.json, or the configuration, and the incident cannot come back unnoticed.

    Parameters
    ----------
    names
        Cases to run. Default: all.
    cases_in
        Folder of the cases. Default: cases, beside the configuration file.
    update
        Expect from now on what comes out today; look at the difference before you commit it.
    record
        Make a case of a file (a bundle or dead letter), or of TOPIC/PARTITION/OFFSET: the dead letter of it, else the
        record in the topic.
    name
        Name of the recorded case. Default: from the file, or the coordinates.
    about
        What happened, one sentence for whoever reads the recorded case.
    mask
        Attribute whose values are replaced in the recorded case, as host.name or 'user.*'; may be repeated.
    letters
        Dead letters to look in first: folder, s3://BUCKET/PREFIX or kafka://TOPIC. Default: the configured ones.
    as_json
        Print one JSON object per case and line.
    """
    folder = cases_in or (engine.config.parent if engine.config is not None else Path()) / FOLDER
    config = engine.load()
    maker = Engine(config.engine)
    if record is not None:
        if names or update:
            raise ConfigError("config.invalid", "--record makes a case, it runs none", "run `lmstream test` afterwards")
        found, origin = _pointed_at(record, letters, broker, engine)
        return _record(found, origin, name, about or f"recorded from {origin}", folder, maker, mask, as_json=as_json)
    if name or about or mask or letters:
        raise ConfigError("config.invalid", "--name, --about, --mask and --letters go with --record", "give --record")
    chosen = _chosen(cases(folder), names, folder)
    if update:
        return _updated(chosen, maker, as_json=as_json)
    failed = 0
    for case in chosen:
        found_out = case.differences(maker)
        failed += bool(found_out)
        _show(case, found_out, as_json=as_json)
    hint = "; --update expects what comes out today" if failed else ""
    terminal.say(f"{len(chosen):,} cases, {failed:,} failed{hint}")
    return 1 if failed else 0


def _chosen(found: list[Case], names: tuple[str, ...], folder: Path) -> list[Case]:
    absent = sorted(set(names) - {case.name for case in found})
    if absent:
        known = ", ".join(case.name for case in found[:20])
        raise ConfigError("config.invalid", f"{folder}: no case {absent[0]!r}", f"name one of these: {known}")
    return [case for case in found if not names or case.name in names]


def _updated(chosen: list[Case], maker: Engine, *, as_json: bool) -> int:
    changed = [case for case in chosen if case.update(maker)]
    for case in changed:
        line = {"case": case.name, "updated": True}
        print(json.dumps(line) if as_json else f"updated {terminal.cell(case.name)}")
    terminal.say(f"{len(chosen):,} cases, {len(changed):,} of them expect something else now")
    return 0


def _show(case: Case, differences: list[Difference], *, as_json: bool) -> None:
    if as_json:
        terminal.print_lines(
            [{"case": case.name, "ok": not differences, "differences": msgspec.to_builtins(differences)}]
        )
        return
    print(f"{'FAILED' if differences else 'ok':8}{terminal.cell(case.name, limit=200)}")
    if differences and case.about.about:
        print(f"        {terminal.cell(case.about.about, limit=200)}")
    for each in differences[:_SHOWN]:
        where = f"{each.where} {each.member}".strip()
        print(f"  {terminal.cell(where, limit=100)}")
        print(f"    - {_value(each.expected)}")
        print(f"    + {_value(each.got)}")
    if len(differences) > _SHOWN:
        print(f"  and {len(differences) - _SHOWN:,} more differences; --json has all")


def _value(value: Any) -> str:
    text = value if isinstance(value, str) and value == "absent" else json.dumps(value, ensure_ascii=False)
    return terminal.cell(text, limit=200)


def _record(
    found: list[Record],
    origin: str,
    name: str | None,
    about: str,
    folder: Path,
    maker: Engine,
    mask: tuple[str, ...],
    *,
    as_json: bool,
) -> int:
    if len(found) != 1:
        what = f"{origin}: {len(found):,} records, and a case has one" if found else f"{origin}: no record there"
        raise ConfigError("config.invalid", what, "give a file with one record, or TOPIC/PARTITION/OFFSET")
    (each,) = found
    if each.held:
        each = unheld(each, maker.settings.limits)
    if each.value is None or each.closed:
        raise SourceError("source.file", f"{origin}: there are no bytes of the record", "read it from its topic")
    masked = Masks(mask, maker.settings.limits).masked(each.value)
    each = msgspec.structs.replace(each, value=masked)
    usual = each.coordinates.replace("/", "-")
    case = write(folder, name or "".join(c if c.isalnum() or c in "._-" else "_" for c in usual), each, about, maker)
    expected = case.expected or {}
    if as_json:
        terminal.print_lines([{"case": case.name, "folder": str(folder), "rows": len(expected.get("rows", ()))}])
    else:
        print(folder / f"{case.name}.toml")
    rows, refused = len(expected.get("rows", ())), expected.get("refused", {}).get("reason", "")
    today = (
        f"refused as {refused}" if refused else f"{rows:,} rows, {len(expected.get('rejected', {})):,} points rejected"
    )
    terminal.say(
        f"it expects what comes out today: {terminal.cell(today)}; edit {case.name}.expected.json if that is wrong"
    )
    return 0


def _pointed_at(target: str, letters: str | None, broker: BrokerFlags, engine: EngineFlags) -> tuple[list[Record], str]:
    """The record that --record names, whole, and where it was found."""
    at = wanted(target, None)
    if Path(target).exists() or at is None:
        return records(target, read(target), engine.load().engine, 2), target
    part = engine.load().dead_letters
    readable = part is not None and (part.traits.store is not None or isinstance(part.settings, InTopic))
    if letters is not None or readable:
        store = Which(broker=broker).store(letters, engine)
        chosen = Filters(topic=(at.topic,), partition=(at.partition,), offset=(str(at.start),))
        found = asyncio.run(_letters(store, chosen)) if at.stop is None else []
        if found:
            return found[:1], f"the dead letter of {target}"
        terminal.say(f"no dead letter of {target}; looking in the topic")
    return asyncio.run(fetched(at, None, 2, broker, engine)), target


async def _letters(store: Any, chosen: Filters) -> list[Record]:
    async with reading(store, chosen.compiled()) as found:
        return [msgspec.structs.replace(each.letter.record(), only=None, below=()) async for each in found]
