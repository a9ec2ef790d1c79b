"""What rows and their dimension rows are with engine.dimensions, said slowly from rows without it; and back again."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec

PARTS = {
    "resource": ("deviceId", "deviceName", "resource"),
    "scope": ("datasource", "scope"),
    "attributes": ("instance", "attributes"),
}
MAPS = ("resource", "scope", "attributes")
ORDER = ("orgId", "orgKey", "resourceKey", "scopeKey", "scope", "rowId", "metric", "metricKey", "unit", "type")
ORDER += ("temporality", "monotonic", "ts", "tsUnixMs", "startTsUnixMs")
"""Members of a line with keys, up to its value."""


def keyed(row: dict[str, Any], varying: Iterable[str] = ("datasourceInstanceId",)) -> tuple[bytes, list[bytes]]:
    """The line of a row with keys, and the lines of its dimensions."""
    row = dict(row)
    stays = {name: text for name, text in row.get("scope", {}).items() if name in (*varying, "epoch")}
    shared = {name: text for name, text in row.pop("scope", {}).items() if name not in stays}
    if stays.get("epoch", "") == str(row["tsUnixMs"]):
        del stays["epoch"]
        shared["epoch"] = "{tsUnixMs}"
    whole = row | ({"scope": shared} if shared else {})
    made = {name: value for name, value in row.items() if all(name not in fields for fields in PARTS.values())}
    if stays:
        made["scope"] = in_order(stays)
    found = []
    for kind, fields in PARTS.items():
        members = {name: in_order(whole[name]) if name in MAPS else whole[name] for name in fields if name in whole}
        if members:
            key = key_of(kind, members)
            made[f"{kind}Key"] = key
            found.append(dimension(row, kind, key, members))
    values = [name for name in made if name not in ORDER and name != "attributesKey"]
    return line({name: made[name] for name in (*ORDER, *values, "attributesKey") if name in made}), found


def in_order(texts: dict[str, str]) -> dict[str, str]:
    return {name: texts[name] for name in sorted(texts, key=str.encode)}


def line(of: dict[str, Any]) -> bytes:
    return msgspec.json.encode(of) + b"\n"


def key_of(kind: str, members: dict[str, Any]) -> str:
    text = kind.encode() + b"\0" + msgspec.json.encode(members)[1:-1]
    return urlsafe_b64encode(blake2b(text, digest_size=12).digest()).decode()


def dimension(row: dict[str, Any], kind: str, key: str, members: dict[str, Any]) -> bytes:
    hour = row["ts"][:13]
    org = msgspec.json.encode({"orgId": row["orgId"], "orgKey": row["orgKey"]})[:-1] + b","
    seed = b"lmstream-dimension1\0" + org + b"\0" + hour.encode() + b"\0" + key.encode()
    moment = f"{hour}:00:00.000Z"
    head = {
        "orgId": row["orgId"],
        "orgKey": row["orgKey"],
        "rowId": f"{blake2b(seed, digest_size=16).hexdigest()}:0",
        "metricKey": "_dimensions",
        "ts": moment,
        "tsUnixMs": round(datetime.fromisoformat(moment).timestamp() * 1000),
        "dimension": kind,
        "key": key,
    }
    return line(head | members)


def joined(lines: Iterable[bytes], dimensions: Iterable[bytes]) -> list[dict[str, Any]]:
    """Rows as they are without the option, in any order of members, from rows with keys and dimension rows."""
    known = {(each["orgId"], each["ts"][:13], each["key"]): each for each in map(json.loads, dimensions)}
    found = []
    for row in map(json.loads, lines):
        for kind, fields in PARTS.items():
            if key := row.pop(f"{kind}Key", ""):
                said = known[row["orgId"], row["ts"][:13], key]
                assert said["dimension"] == kind
                if said.get("scope", {}).get("epoch") == "{tsUnixMs}":
                    said = said | {"scope": said["scope"] | {"epoch": str(row["tsUnixMs"])}}
                for name in fields:
                    if name in said:
                        row[name] = said[name] | row.get(name, {}) if name in MAPS else said[name]
        found.append(row)
    return found
