"""Landed rows with keys in DuckDB: joined with the dimension rows of their hour, they have the shape without keys."""

from collections.abc import Iterable

from lmstream.engine.dimensions import BY_TIME, EPOCH
from lmstream.model import DIMENSIONS

PARTS = {
    "resourceKey": ("deviceId", "deviceName", "resource"),
    "scopeKey": ("datasource", "scope"),
    "attributesKey": ("instance", "attributes"),
}
"""By the key, the fields that it stands for."""


def views(columns: Iterable[str], everything: str, dimensions: str) -> list[str]:
    """Statements that make the views `keyed` (rows as they landed), `dimensions` (each once) and `landed` (rows with
    all `columns`). `everything` and `dimensions` are selects of whatever landed, and of the objects with dimension
    rows."""
    fields = [field for of in PARTS.values() for field in of]
    said = ", ".join(f'any_value("{field}") as "{field}"' for field in fields)
    shown, joins = {f'"{name}"': f'k."{name}"' for name in columns if name not in PARTS}, ""
    for number, (key, of) in enumerate(PARTS.items()):
        at = f"d{number}"
        joins += (
            f' left join dimensions {at} on {at}."orgKey" = k."orgKey" and {at}.hour = k.hour and {at}.key = k."{key}"'
        )
        shown |= {f'"{field}"': f'coalesce(k."{field}", {at}."{field}")' for field in of}
        if "scope" in of:
            shown['"scope"'] = _scope(at)
    row = ", ".join(f"{value} as {name}" for name, value in shown.items())
    is_one = f"""where "metricKey" = '{DIMENSIONS}' group by "orgKey", left(ts, 13), key"""
    head = f'"orgKey", left(ts, 13) as hour, any_value(dimension) as dimension, key, {said}'
    of_rows = f"""where "metricKey" <> '{DIMENSIONS}'"""
    return [
        f"create view keyed as select *, left(ts, 13) as hour from ({everything}) {of_rows}",  # noqa: S608 - our own names
        f"create view dimensions as select {head} from ({dimensions}) {is_one}",  # noqa: S608 - as above
        f"create view landed as select {row} from keyed k{joins}",  # noqa: S608 - as above
    ]


def _scope(at: str) -> str:
    """The map of a scope: what the dimension row has, its epoch by the row's time, and what stayed in the row."""
    by_time = f"""case when {at}."scope"['{EPOCH}'] = '{BY_TIME}'
        then map_concat({at}."scope", map {{'{EPOCH}': k."tsUnixMs"::varchar}}) else {at}."scope" end"""
    return f"""case when k."scopeKey" is null or {at}."scope" is null then k."scope"
        else map_concat({by_time}, coalesce(k."scope", map {{}})) end"""
