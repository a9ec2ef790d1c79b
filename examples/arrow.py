"""Rows of some bundles as one Arrow table: `python examples/arrow.py FILE...`. Needs the extra [parquet]."""

import sys
from pathlib import Path

from lmstream import Engine, Record, Settings
from lmstream.engine.columns import Pools
from lmstream.storage import parquet


def main() -> int:
    """Print the mean of each metric. Texts that repeat are dictionaries: plain ones can be sorted."""
    engine = Engine(Settings(org_id="acme"))
    pools = Pools()
    for number, name in enumerate(sys.argv[1:]):
        value = Path(name).read_bytes()
        record = Record(topic="example", partition=0, offset=number, timestamp=0, value=value)
        for columns in engine.fan_out(record).columns():
            pools.add(columns)
    table = parquet.table(pools)
    table = table.set_column(table.column_names.index("metric"), "metric", table["metric"].cast("string"))
    means = table.group_by("metric").aggregate([("value", "mean"), ("rowid", "count")]).sort_by("metric")
    for row in means.to_pylist():
        print(f"{row['metric']}: {row['value_mean']:.2f} of {row['rowid_count']} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
