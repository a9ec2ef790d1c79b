"""`python -m benchmarks.docs`: write recorded runs into docs/benchmarks.md and docs/scale.md, tables and pictures."""

import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import change, latency, scale
from benchmarks.charts import adaptive
from benchmarks.figures import verdict
from benchmarks.report import charts, load_table, read
from benchmarks.yardstick import conditions

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = ("transform-medium", "targets", "peers", "load", "load-cpu", "load-memory", "memory")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def _target(figure: dict[str, Any], column: str) -> str:
    return "" if figure[column] is None else f"{'<' if figure['lower'] else '>'} {figure[column]:g} {figure['unit']}"


def blocks(runs: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Every generated piece of the pages, by the name in its markers."""
    bench, made = runs["bench"], {}
    on = bench["machine"]
    made["machine"] = (
        f"{conditions(on)}, {bench['at']}; load average "
        f"{', '.join(f'{each:g}' for each in bench['load_average'])} on {on['cpus']} cores."
    )
    made["figures"] = _table(
        ["figure", "size", "engine", "value", "need", "aim", "of", "verdict"],
        [
            [
                f["name"],
                f["size"],
                f["engine"],
                f"{f['value']:,.2f} {f['unit']}",
                _target(f, "need"),
                _target(f, "aim"),
                f["of"],
                verdict(f).replace("|", "/"),  # it may hold what git said
            ]
            for f in bench["figures"]
        ],
    )
    if late := bench.get("latency"):
        head, *rows = latency.table(late)
        made["latency"] = _table(head, rows)
    steps = scale.steps(scale.rows_per_core())
    made["scale"], made["paths"] = scale.table(steps), scale.paths(steps)
    made["core"] = f"{scale.rows_per_core():,.0f} rows a CPU second"
    if load := runs.get("load"):
        head, *rows = load_table(load)
        knee = load["knee_rows_per_second"]
        made["load"] = _table(head, rows) + (
            f"\n\nThe knee: {knee:,.0f} rows a second." if knee else "\n\nThe knee is below the first rate."
        )
    if peers := runs.get("peers"):
        ours = next(p["ns_per_row"] for p in peers["peers"] if p["ours"])
        on = f"{conditions(peers['machine'])}; {peers['load']}.\n\n" if "machine" in peers else ""
        made["peers"] = on + _table(
            ["system", "version", "ns a row", "times ours", "what it does, or why it was not run"],
            [
                [p["name"], p["version"] or "", *_times(p["ns_per_row"], ours), p["said"].replace("|", "/")]
                for p in peers["peers"]
            ],
        )
    if changed := runs.get("change"):
        head, *rows = change.table(changed)
        made["change"] = (
            f"Before is {changed['revision']}. {conditions(changed['machine'])}; {changed['load']}; medians of "
            f"{changed['rounds']} runs each, by turns.\n\n" + _table(head, rows)
        )
    if memory := runs.get("memory"):
        made["memory"] = (
            f"{memory['said']}\n\nBudget {memory['budget_mib']} MiB, {memory['seconds']:,.0f} s: peak "
            f"{memory['peak_mib']:.0f} MiB, mean {memory['mean_mib']:.0f} MiB, slope after the first tenth "
            f"{memory['slope_mib_per_minute']:+.2f} MiB a minute, {memory['cpu_share']:.2f} cores. The aim is 200 MiB."
        )
    return made


def _times(took: float | None, ours: float) -> list[str]:
    return [f"{took:,.0f}", f"{took / ours:.1f}x"] if took else ["", ""]


def fill(text: str, made: dict[str, str]) -> str:
    """Put each piece between its markers; what was not run says so. KeyError never: unknown names are left alone."""

    def piece(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- {name} -->\n{made.get(name, 'Not run yet.')}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", piece, text, flags=re.DOTALL)


def main() -> int:
    """Rewrite the pages and their pictures."""
    runs = read(Path(__file__).parent / "results")
    made = blocks(runs)
    for name in ("benchmarks.md", "scale.md"):
        path = DOCS / name
        path.write_text(fill(path.read_text(encoding="utf-8"), made), encoding="utf-8")
    folder = DOCS / "pictures"
    folder.mkdir(exist_ok=True)
    for name, svg in charts(runs).items():
        if name in PICTURES:
            (folder / f"{name}.svg").write_text(adaptive(svg), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
