"""What accompanies a measurement: kept when it is sound, else left out of the row and counted by reason."""

import math
from typing import Any

from support.oracle_shapes import HUGE, INT64, MAX_ITEMS, WRONG
from support.oracle_text import as_texts

UINT64 = range(2**64)
EARLIEST_MS = 946_684_800_000  # 2000-01-01T00:00:00Z
LATEST_MS = 4_133_980_800_000  # 2101-01-01T00:00:00Z, itself too late

Counts = dict[str, int]


def count(counts: Counts, reason: str) -> None:
    counts[reason] = counts.get(reason, 0) + 1


def fault_of(value: Any) -> str:
    """What is wrong with a number, or nothing."""
    if value is WRONG:
        return "part.type"
    if value is HUGE:
        return "part.range"
    if isinstance(value, float) and not math.isfinite(value):
        return "part.nan" if math.isnan(value) else "part.infinite"
    return ""


def kept(value: Any, noted: Counts) -> Any:
    """The number, or None when it was not sent or is left out."""
    fault = fault_of(value)
    if fault:
        count(noted, fault)
        return None
    return value


def start_of(value: Any, noted: Counts) -> int | None:
    """startTimeUnixNano in ms; None when not sent, or left out."""
    if value in (None, 0):
        return None
    if value is WRONG:
        count(noted, "part.type")
        return None
    if value is HUGE or not EARLIEST_MS <= value // 10**6 < LATEST_MS:
        count(noted, "part.range")
        return None
    return value // 10**6


def quantiles_of(pairs: Any, noted: Counts) -> list[dict[str, float]]:
    if pairs is WRONG:
        count(noted, "part.type")
        return []
    made = []
    for pair in pairs:
        faults = ["part.type"] if pair is WRONG else [fault for fault in map(fault_of, pair) if fault]
        if not faults:
            made.append({"quantile": pair[0], "value": pair[1]})
        elif set(faults) == {"part.nan", "part.infinite"}:
            count(noted, "part.nan")
        else:
            count(noted, faults[0])
    return made


def exemplars_of(exemplars: Any, noted: Counts) -> list[dict[str, Any]]:
    if exemplars is WRONG:
        count(noted, "part.type")
        return []
    if len(exemplars) > MAX_ITEMS:
        count(noted, "part.limit")
        return []
    made = []
    for exemplar in exemplars:
        fault = value_fault(exemplar)
        if fault:
            count(noted, fault)
        else:
            made.append(exemplar_of(exemplar, noted))
    return made


def value_fault(exemplar: Any) -> str:
    """Why an exemplar is left out, or nothing."""
    if exemplar is WRONG or len(exemplar["values"]) > 1:
        return "part.type"
    if not exemplar["values"]:
        return "part.missing"
    [value] = exemplar["values"]
    if isinstance(value, int) and value not in INT64:
        return "part.range"
    return fault_of(value)


def stays(exemplars: Any) -> list[dict[str, Any]]:
    """The exemplars that are not left out."""
    if exemplars is WRONG or len(exemplars) > MAX_ITEMS:
        return []
    return [exemplar for exemplar in exemplars if not value_fault(exemplar)]


def exemplar_of(exemplar: dict[str, Any], noted: Counts) -> dict[str, Any]:
    [value] = exemplar["values"]
    optional: dict[str, Any] = {}
    for name in ("traceId", "spanId"):
        if exemplar[name] is WRONG:
            count(noted, "part.type")
        elif exemplar[name]:
            optional[name] = exemplar[name].hex()
    time = exemplar["timeUnixNano"]
    if time is WRONG:
        count(noted, "part.type")
    elif time is HUGE or (time or 0) not in UINT64:
        count(noted, "part.range")
    elif time:
        optional["tsUnixMs"] = time // 10**6
    optional |= filtered_attributes_of(exemplar["attributes"], noted)
    time_first = {"tsUnixMs": optional.pop("tsUnixMs")} if "tsUnixMs" in optional else {}
    return time_first | {"value": value} | optional


def without_last_bound(counts: list[int], bounds: list[float]) -> tuple[list[int], list[float]] | None:
    """Counts and bounds once a last bound of +Inf is dropped; None when the counts fit neither way."""
    if len(counts) == len(bounds):
        return counts, bounds[:-1]
    if len(counts) == len(bounds) + 1:
        return [*counts[:-2], counts[-2] + counts[-1]], bounds[:-1]
    return None


def filtered_attributes_of(attributes: Any, noted: Counts) -> dict[str, Any]:
    if attributes is WRONG:
        count(noted, "part.type")
        return {}
    if attributes and attributes.limit:
        count(noted, "part.limit")
        return {}
    for _ in range(attributes.empty if attributes else 0):
        count(noted, "attribute.empty")
    return {"attributes": as_texts(attributes)} if attributes and attributes.values else {}
