"""`lmstream validate --deployment`: quotas and cost of a deployment, before it is made."""

import json
from pathlib import Path

from msgspec import to_builtins

from lmstream.cli import terminal
from lmstream.deployment import load
from lmstream.deployment.estimate import Estimate, estimate, own, prices
from lmstream.deployment.ways import choice

OVER = 2
_PATHS = (
    *("path (* configured)", "USD a month", "ingest", "requests", "storage", "compute", "network"),
    *("PUT a month", "object KiB", "rows land after", "USD to query a day"),
)


def run(settings: Path, table: Path | None, *, as_json: bool) -> int:
    """Print the arithmetic; 2 when a quota is passed. Raises ConfigError for settings that cannot work."""
    found = estimate(load(settings), prices(table))
    if as_json:
        raw = to_builtins(found)
        raw["total_usd"] = found.total
        for quota, plain in zip(found.quotas, raw["quotas"], strict=True):
            plain["verdict"] = quota.verdict
        print(json.dumps(raw, indent=1))
    else:
        _show(found)
    return OVER if any(quota.verdict == "over" for quota in found.quotas) else 0


def _show(found: Estimate) -> None:
    rates = found.rates
    print(
        f"{rates['rows_per_second']:,.0f} rows/s in {rates['bundles_per_second']:,.1f} bundles/s, "
        f"{rates['mib_per_second']:,.2f} MiB/s, {rates['gb_per_month']:,.0f} GB a month; "
        f"{rates['objects_per_day']:,.0f} objects a day of {rates['object_kib']:,.0f} KiB"
    )
    quotas = [(each.name, round(each.used, 2), each.limit, each.unit, each.verdict) for each in found.quotas]
    terminal.table(("quota", "used", "limit", "unit", "verdict"), quotas)
    lines = [(each.name, round(each.usd, 2), each.how) for each in found.cost]
    terminal.table(("cost", "USD a month", "of"), [*lines, ("in all", round(found.total, 2), "")])
    paths = [
        (
            f"{way.name}{' *' if way.configured else ''}",
            *(round(usd, 2) for usd in (way.usd, way.ingest, way.requests, way.storage, way.compute, way.network)),
            *(f"{way.puts:,.0f}", f"{way.object_kib:,.0f}", f"{way.window_seconds:,.0f} s, {way.ended_by}"),
            round(way.query_usd, 4),
        )
        for way in found.ways
    ]
    terminal.table(_PATHS, paths)
    print(f"{choice(found.ways)}\n")
    other = [(each.name, round(each.usd, 2), each.how) for each in found.alternatives]
    terminal.table(("alternative", "USD a month", "why"), other)
    since = (
        f"as of {found.prices_as_of}: reported by AWS, without guarantee; edit a copy (--show-prices) and pass it with "
        "--prices"
    )
    print(f"prices {since if found.prices_as_of else 'are your own'}")
    for note in found.notes:
        terminal.say(f"note: {note}")
    for quota in found.quotas:
        if quota.verdict != "ok":
            terminal.say(f"{quota.name} is {quota.verdict}: {quota.fix}")


def show_prices() -> int:
    """Print the price table that comes with lmstream, to be edited."""
    print(own(), end="")
    return 0
