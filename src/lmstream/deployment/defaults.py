"""Defaults of a settings file that depend on its age: a file of before `defaults = 2` keeps what it deployed."""

from typing import Any, Final

from lmstream.settings import DEFAULT_PATH

NEWEST: Final = 2
NAME: Final = "lmstream"
"""Of a deployment that has no other."""
ROWS_PATH: Final = f"rows/{DEFAULT_PATH}"
"""Rows below a prefix of their own: no organization's key can then be the name of another prefix of the bucket."""
LAKE_PATH: Final = f"lake/{DEFAULT_PATH}"
"""The same for objects that are written without Firehose: a query of the one never meets the other."""

DEFAULTS: Final[dict[int, dict[str, dict[str, Any]]]] = {
    1: {
        "cluster": {"kafka_version": "3.8.x", "create_topic": False},
        "bucket": {"name": "lm-datapublisher-metrics", "intelligent_tiering_days": 0, "glacier_days": 365},
        "catalog": {"map_keys": "lower-case"},
        "engine": {"path": DEFAULT_PATH},
    },
    2: {"engine": {"path": ROWS_PATH}},
}
"""By `defaults` of a file, then by table: values of keys that the file leaves out. The rest is in deployment.py."""


def filled(raw: dict[str, Any]) -> dict[str, Any]:
    """The tables of a settings file with the defaults of its age. A file without `defaults` is of age 1."""
    age = raw.get("defaults", 1)
    found = {**raw, "defaults": age}
    if not isinstance(age, int) or age not in DEFAULTS:
        return found  # refused with the rest
    group = {"group": raw.get("name", NAME)}
    made_of_others = {"container": group, **(_of_the_first(raw) if age == 1 else {"transform": group})}
    if raw.get("path") == "direct":
        made_of_others = {"engine": {"path": LAKE_PATH}, **made_of_others}
    for tables in (made_of_others, DEFAULTS[age]):
        for table, keys in tables.items():
            given = found.get(table, {})
            if isinstance(given, dict):
                found[table] = {**keys, **given}
    return found


def _of_the_first(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Defaults of age 1 that were made of other settings: zones by letter, the Pipe named like the deployment, results
    of queries in the landing bucket. Its group was `lmstream` whatever the deployment was called."""
    found: dict[str, dict[str, Any]] = {"transform": {"pipe_name": raw.get("name", NAME), "group": NAME}}
    if isinstance(bucket := raw.get("bucket", {}), dict):
        found["bucket"] = {"results": bucket.get("name", DEFAULTS[1]["bucket"]["name"])}
    network, cluster = raw.get("network", {}), raw.get("cluster", {})
    if isinstance(network, dict) and isinstance(cluster, dict) and not cluster.get("arn"):
        zones, region = network.get("zones", 3), raw.get("region", "us-west-2")
        if zones in (2, 3):
            found["network"] = {"zone_names": [f"{region}{letter}" for letter in "abc"[:zones]]}
    return found
