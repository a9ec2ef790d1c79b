"""After the latency benchmarks: percentiles of one bundle, which pytest-benchmark's own table does not have."""

from statistics import quantiles

COLUMNS = {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999}


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    found = [bench for bench in getattr(session, "benchmarks", ()) if len(bench.stats.data) > 1]
    if not found:
        return
    terminalreporter.write_sep("-", "milliseconds of one bundle, percentiles")
    terminalreporter.write_line(f"{'bundle':28}" + "".join(f"{name:>9}" for name in COLUMNS) + f"{'bundles':>9}")
    for bench in found:
        cut = quantiles(bench.stats.data, n=1000, method="inclusive")
        name = bench.name.split("[")[-1].rstrip("]")
        figures = "".join(f"{1000 * cut[at - 1]:9.3f}" for at in COLUMNS.values())
        terminalreporter.write_line(f"{name:28}{figures}{len(bench.stats.data):9}")
