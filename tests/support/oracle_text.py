"""Attribute values as text, names as path-safe tokens, partition paths: the oracle's way."""

import base64
import math
import re
from hashlib import blake2b
from typing import Any

import msgspec

from support.oracle_shapes import Attributes


def as_texts(attributes: Attributes) -> dict[str, str]:
    return {key: as_text(value) for key, value in attributes.values.items()}


def as_text(value: Any) -> str:
    """An attribute value by OTLP's rule for formats that are not OTLP."""
    if value is None:
        return ""
    plain = jsonable(value)
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()


def jsonable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [jsonable(v) for v in value]
    if isinstance(value, dict):
        return {k: jsonable(v) for k, v in value.items()}
    return value


def token(text: str) -> str:
    """A name that is safe in a path, the text itself where it can be."""
    if text == "":
        return "_empty"
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", text):
        return text
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", text)
    if not re.match(r"[A-Za-z0-9]", safe):
        safe = "_" + safe[1:]
    return f"{safe[:111]}-{blake2b(text.encode(), digest_size=8).hexdigest()}"


def metric_key(name: str, settings: Any) -> str:
    if settings.metric_key == "allow" and name not in settings.metric_allow:
        return "_other"
    assert settings.metric_key != "buckets", "how buckets are named is not this oracle's to say"
    return token(name)


def path_of(row: dict[str, Any], settings: Any) -> str:
    ts = row["ts"]
    parts = {"yyyy": ts[0:4], "MM": ts[5:7], "dd": ts[8:10], "HH": ts[11:13]}
    return settings.path.format(orgKey=row["orgKey"], metricKey=row["metricKey"], **parts)
