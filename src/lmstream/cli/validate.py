"""`lmstream validate`: what is wrong with a configuration or a deployment, before it costs a night or money."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from lmstream.abilities import Check
from lmstream.cli import terminal
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, BrokerFlags, EngineFlags, Json
from lmstream.cli.run import NO_SINK, NO_SOURCE, SinkFlags, SourceFlags, overrides_of
from lmstream.cli.tables import Wide
from lmstream.config.questions import live
from lmstream.config.validation import START, arithmetic
from lmstream.errors import REASONS, ConfigError, more

WRONG, UNREACHABLE = 2, 1


def validate(
    *,
    connect: bool = False,
    deployment: Path | None = None,
    prices: Path | None = None,
    show_prices: bool = False,
    wide: Wide = False,
    as_json: Json = False,
    workers: int | None = None,
    source: SourceFlags = NO_SOURCE,
    broker: BrokerFlags = NO_BROKER,
    sink: SinkFlags = NO_SINK,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Check the configuration of a run, or the settings of a deployment. Exit 2 if something is wrong, 1 if a check
    of --connect fails.

    Parameters
    ----------
    connect
        Also check brokers, topics, group, stream and dead letters. Reads no record and commits nothing.
    deployment
        Instead: check settings of deploy/cdk; shows rates, quotas and monthly cost.
    prices
        With --deployment: your own price table.
    show_prices
        Instead: print the price table of lmstream (TOML), for editing.
    wide
        With --deployment: show tables in full, however wide the terminal is.
    as_json
        Print one JSON object per check and line; with --deployment one object.
    workers
        Number of processes that the run would have.
    """
    if show_prices:
        from lmstream.cli.deployment import show_prices as show

        return show()
    if deployment is not None:
        from lmstream.cli.deployment import run

        return run(deployment, prices, wide=wide, as_json=as_json)
    if prices is not None:
        raise ConfigError("config.invalid", "--prices belongs to --deployment")
    overrides = overrides_of(source, broker, sink, workers)
    try:
        config = engine.load(overrides)
    except ConfigError:
        engine.load(overrides, START)  # all at once: also what is wrong in the tables that could be read
        raise
    static = list(arithmetic(config))
    told = {check.name for check in static if check.verdict == "failed"}
    asked = asyncio.run(live(config)) if connect else []
    asked = [check for check in asked if check.verdict != "failed" or check.name not in told]
    show_checks([*static, *asked], as_json=as_json)
    if told:
        return WRONG
    return UNREACHABLE if any(check.verdict == "failed" for check in asked) else 0


def show_checks(checks: Sequence[Check], *, as_json: bool) -> None:
    """Print what was found, and how many failed."""
    if as_json:
        terminal.print_lines(checks)
        return
    for check in checks:
        print(f"{check.verdict:8} {terminal.clean(check.name)}: {terminal.clean(check.said)}")
        if check.fix and check.verdict != "ok":
            print(f"{'':8} fix: {terminal.clean(check.fix)}")
        if check.verdict == "failed":
            print(f"{'':8} {more(check.code or REASONS['config.invalid'].code)}")
    bad = sum(check.verdict == "failed" for check in checks)
    odd = sum(check.verdict == "warning" for check in checks)
    print(f"{len(checks)} checks: {bad} failed, {odd} warnings")
