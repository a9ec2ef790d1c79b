"""`make bench-report`: the recorded runs as one self-contained page and as PNG charts.

Reads what the benchmarks left in results/ (or in a folder that is named); what was not run is said to be missing.
"""

import argparse
import json
import sys
from html import escape
from pathlib import Path
from typing import Any

from benchmarks import latency
from benchmarks.charts import DARK, LIGHT, Bar, bars, lines, png
from benchmarks.figures import verdict
from benchmarks.yardstick import conditions

CPU_WINDOW = 1.0
RESULTS = Path(__file__).parent / "results"
PARTS = {
    "bench": "make bench ARGS=--record",
    "memory": ".venv/bin/python -m benchmarks.memory --json FILE",
    "load": "make bench-load",
    "peers": "make bench-peers",
    "change": ".venv/bin/python -m benchmarks.change REV",
}


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The recorded runs that are there, by part."""
    paths = {name: folder / f"{name}.json" for name in PARTS}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}


def charts(runs: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Every chart there is data for, by file name."""
    made = {}
    if bench := runs.get("bench"):
        for size, of in bench["sizes"].items():
            named = {k: v for k, v in of["best_ns_per_row"].items() if not k.startswith(("decode", "fan_out"))}
            made[f"transform-{size}"] = bars(
                f"CPU of one row, {size} bundles (ns, less is better)",
                [Bar(k, v, f"{v:,.0f} ns", ours=k.startswith("engine")) for k, v in named.items()],
            )
        found = []
        for figure in bench["figures"]:
            if figure["need"] is None:
                continue
            # Of the need: above 1 is better, whichever way the figure counts.
            share = figure["need"] / figure["value"] if figure["lower"] else figure["value"] / figure["need"]
            name = figure["name"] + ("" if figure["size"] == "medium" else f", {figure['size']}")
            name += f", {figure['engine']}" if figure["engine"] else ""
            found.append(Bar(name, share, f"{share:.0%}", ours=bool(figure["met"]), mark=1.0))
        made["targets"] = bars(
            "How much of its need each figure reaches (the mark is the need)", found, ("reached", "not reached")
        )
    if memory := runs.get("memory"):
        series = [(at, mib) for at, mib, _ in memory["samples"]]
        made["memory"] = lines("Resident memory of a worker at full load", {"memory": series}, "seconds", "MiB")
    if load := runs.get("load"):
        steps = load["steps"]
        made["load"] = lines(
            "Publish to Firehose at rising rates: latency of a record",
            {f"p{p}": [(s["asked_rows_per_second"], s[f"p{p}_ms"]) for s in steps] for p in (50, 99)},
            "rows published a second",
            "milliseconds",
        )
        made["load-cpu"] = lines(
            "CPU of the consumer while the rate rises", {"cpu": _cores(load["samples"])}, "seconds", "cores"
        )
        made["load-memory"] = lines(
            "Resident memory of the consumer while the rate rises",
            {"memory": [(at, mib) for at, _, mib in load["samples"]]},
            "seconds",
            "MiB",
        )
    if peers := runs.get("peers"):
        told = sorted((p for p in peers["peers"] if p.get("ns_per_row")), key=lambda p: p["ns_per_row"])
        made["peers"] = bars(
            "CPU of one row, the same rows from others (ns, less is better)",
            [Bar(p["name"], p["ns_per_row"], f"{p['ns_per_row']:,.0f} ns", ours=_ours(p)) for p in told],
            ("lmstream", "others"),
        )
    return made


def _ours(peer: dict[str, Any]) -> bool:
    """Whether it is lmstream, in one of its hosts: `ours` in a record is the one that others are compared with."""
    return bool(peer["ours"]) or peer["name"].startswith("lmstream")


def load_table(load: dict[str, Any]) -> list[list[str]]:
    """A head, and a row for each rate."""
    keys = ("rows_per_second", "settled_rows_per_second", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "mib")
    head = ["asked rows/s", "published", "settled", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "MiB", "cores"]
    return [head] + [
        [f"{s['asked_rows_per_second']:,}", *(f"{s[k]:,.0f}" for k in keys), f"{s['cpu'] or 0:.2f}"]
        for s in load["steps"]
    ]


def _cores(samples: list[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """(seconds, cores in use) over windows of a second or so: a tick of CPU time is too coarse for single samples."""
    found, (before, used) = [], samples[0][:2]
    for at, cpu, _ in samples[1:]:
        if at - before >= CPU_WINDOW:
            found.append((at, (cpu - used) / (at - before)))
            before, used = at, cpu
    return found


def _html_table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) + "</tr>" for row in body)
    return "<table><tr>" + "".join(f"<th>{escape(cell)}" for cell in head) + "</tr>" + lines + "</table>"


def page(runs: dict[str, dict[str, Any]], made: dict[str, str]) -> str:
    """One HTML page: no scripts, nothing from the network."""
    dark, light = (";".join(f"--{k}:{v}" for k, v in palette.items()) for palette in (DARK, LIGHT))
    parts = []
    if bench := runs.get("bench"):
        on = bench["machine"]
        parts.append(
            f"<p>{escape(conditions(on))}, {escape(bench['at'])}, load average {escape(str(bench['load_average']))}</p>"
        )
        rows = "".join(
            f"<tr><td>{escape(f['name'])}</td><td>{f['size']}</td><td>{f['engine']}</td>"
            f"<td>{f['value']:,.2f} {f['unit']}</td>"
            f"<td>{'' if f['need'] is None else f['need']}</td><td>{'' if f['aim'] is None else f['aim']}</td>"
            f"<td>{escape(f['of'])}</td><td>{escape(verdict(f))}</td></tr>"
            for f in bench["figures"]
        )
        head = "".join(f"<th>{name}" for name in ("figure", "size", "engine", "value", "need", "aim", "of", "verdict"))
        parts.append(f"<table><tr>{head}</tr>{rows}</table>")
        if late := bench.get("latency"):
            parts.append("<h2>Latency of one bundle</h2>" + _html_table(latency.table(late)))
    if load := runs.get("load"):
        parts.append("<h2>Publish to Firehose at rising rates</h2>" + _html_table(load_table(load)))
    if peers := runs.get("peers"):
        told = [[p["name"], f"{p['ns_per_row'] or 0:,.0f}", p["said"]] for p in peers["peers"]]
        head = ["system", "ns a row", "what it does, or why it was not run"]
        parts.append("<h2>The same rows from others</h2>" + _html_table([head, *told]))
    missing = "".join(f"<li>{name}: <code>{escape(PARTS[name])}</code></li>" for name in PARTS if name not in runs)
    if missing:
        parts.append(f"<p>Not run:</p><ul>{missing}</ul>")
    figures = "".join(f"<figure>{svg}</figure>" for svg in made.values())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>lmstream benchmarks</title><style>"
        f":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "body{background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif;max-width:820px;"
        "margin:2em auto;padding:0 1em}svg{max-width:100%;height:auto}figure{margin:2em 0}"
        "table{border-collapse:collapse;font-size:13px;width:100%}td,th{text-align:left;padding:3px 8px;"
        "border-bottom:1px solid var(--grid)}p{color:var(--soft)}</style>"
        f"<h1>lmstream benchmarks</h1>{''.join(parts)}{figures}</html>\n"
    )


def write(to: Path, results: Path = RESULTS) -> list[Path]:
    """Write the page, and the charts as PNG beside it, light and dark; answers what was written."""
    runs = read(results)
    made = charts(runs)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(page(runs, made), encoding="utf-8")
    written = [to]
    for name, svg in made.items():
        for mode, palette in (("", LIGHT), ("-dark", DARK)):
            written.append(to.with_name(f"{to.stem}-{name}{mode}.png"))
            written[-1].write_bytes(png(svg, palette))
    return written


def main(arguments: list[str] | None = None) -> int:
    """Write page and charts; say where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("to", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    flags = parser.parse_args(arguments)
    for path in write(flags.to, flags.results):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
