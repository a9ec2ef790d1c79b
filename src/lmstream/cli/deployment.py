"""`lmstream validate --deployment`: quotas and cost of a deployment, before it is made."""

from pathlib import Path

from msgspec import to_builtins

from lmstream.cli import terminal
from lmstream.cli.tables import Column, table
from lmstream.deployment import load
from lmstream.deployment.estimate import Estimate, estimate, own, prices
from lmstream.deployment.ways import choice

OVER = 2
_PATHS = (
    Column("path (* configured)", 1, "id"),
    Column("USD a month", 2),
    Column("ingest", 5),
    Column("requests", 6),
    Column("storage", 8),
    Column("compute", 7),
    Column("network", 9),
    Column("PUT a month", 10, "whole"),
    Column("object KiB", 11, "whole"),
    Column("rows land after", 3, "whole"),
    Column("USD to query a day", 4),
)


def run(settings: Path, table: Path | None, *, as_json: bool, wide: bool = False) -> int:
    """Print the arithmetic; 2 when a quota is passed. Raises ConfigError for settings that cannot work."""
    found = estimate(load(settings), prices(table))
    if as_json:
        raw = to_builtins(found)
        raw["total_usd"] = found.total
        for quota, plain in zip(found.quotas, raw["quotas"], strict=True):
            plain["verdict"] = quota.verdict
        terminal.print_json(raw, indent=None)
    else:
        _show(found, wide=wide)
    return OVER if any(quota.verdict == "over" for quota in found.quotas) else 0


def _show(found: Estimate, *, wide: bool) -> None:
    rates = found.rates
    print(
        f"{rates['rows_per_second']:,.0f} rows/s in {rates['bundles_per_second']:,.1f} bundles/s, "
        f"{rates['mib_per_second']:,.2f} MiB/s, {rates['gb_per_month']:,.0f} GB a month; "
        f"{rates['objects_per_day']:,.0f} objects a day of {rates['object_kib']:,.0f} KiB"
    )
    quotas = [(each.name, round(each.used, 2), each.limit, each.unit, each.verdict) for each in found.quotas]
    table((Column("quota", 1), "used", "limit", Column("unit", 9), Column("verdict", 2, "whole")), quotas, wide=wide)
    print()
    lines = [(each.name, round(each.usd, 2), each.how) for each in found.cost]
    heads = ("USD a month", Column("of", kind="prose"))
    table(("cost", *heads), [*lines, ("in all", round(found.total, 2), "")], wide=wide)
    print()
    paths = [
        (
            f"{way.name}{' *' if way.configured else ''}",
            *(round(usd, 2) for usd in (way.usd, way.ingest, way.requests, way.storage, way.compute, way.network)),
            *(f"{way.puts:,.0f}", f"{way.object_kib:,.0f}", f"{way.window_seconds:,.0f} s, {way.ended_by}"),
            round(way.query_usd, 4),
        )
        for way in found.ways
    ]
    table(_PATHS, paths, wide=wide)
    print(f"{choice(found.ways)}\n")
    other = [(each.name, round(each.usd, 2), each.how) for each in found.alternatives]
    table(("alternative", "USD a month", Column("why", kind="prose")), other, wide=wide)
    print()
    since = (
        f"as of {found.prices_as_of}: reported by AWS, without guarantee; edit a copy (--show-prices) and pass it with "
        "--prices"
    )
    print(f"prices {since if found.prices_as_of else 'are your own'}")
    for note in found.notes:
        terminal.say(f"note: {note}")
    for quota in found.quotas:
        if quota.verdict != "ok":
            terminal.insist(f"{quota.name} is {quota.verdict}: {quota.fix}")


def show_prices() -> int:
    """Print the price table that comes with lmstream, to be edited."""
    print(own(), end="")
    return 0
