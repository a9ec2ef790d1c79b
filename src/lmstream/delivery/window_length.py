"""How long a window of objects lasts, and which limit ends it: age, rows, bytes, memory or cost. Arithmetic alone.

A window writes one object a path and one claim, however long it lasts: the longer, the fewer requests, and the later
rows land. What may be spent on requests stretches it, up to a greatest age; rows, bytes and memory end it before that.
"""

from typing import Final, Literal

from msgspec import Struct

MONTH: Final = 30 * 86_400
"""Seconds of the month that prices and budgets are for."""
CLAIM_PUTS: Final = 1
"""Requests of a window beside its objects: the claim."""
PUT_USD: Final = 0.005 / 1000
"""Of a PUT request to S3 Standard in most regions: aws.amazon.com/s3/pricing/. A store of another price makes windows
longer or shorter than wanted, and changes nothing else."""
WINDOW_ROWS: Final = 100_000_000
WINDOW_BYTES: Final = 64 << 30
"""Rows, and bytes of lines before compression, at which a window ends unless settings say otherwise: far more than what
memory holds. A million rows a minute for five minutes are 4.4 GiB of lines, and a twentieth of that in memory."""


def windows_hold(budget: int) -> int:
    """Bytes that a process with this budget holds when memory ends its windows, all of them at once. The last eighth is
    for what was just read, and for rows of records under way."""
    return budget - budget // 8


def window_fits(held: int, budget: int) -> bool:
    """Whether a process with this budget makes a window again whose rows took so many bytes. That of the process that
    claimed it does: memory ended the window, but for the records that had been read by then."""
    return held <= budget + budget // 4


def monthly_usd(objects: float, seconds: float, put_usd: float = PUT_USD) -> float:
    """What the requests of a lane cost a month, whose windows of so many seconds have so many objects."""
    return (objects + CLAIM_PUTS) * MONTH / seconds * put_usd


Limit = Literal["age", "rows", "bytes", "memory", "cost"]


class Flow(Struct, frozen=True, kw_only=True):
    """What arrives in one lane on average."""

    rows: float
    """A second."""
    line_bytes: float
    """Of a row as a line, before compression."""
    landed_bytes: float
    """Of a row in its object, compressed."""
    held_bytes: float
    """Of a row in memory while its window is open: compressed lines, or columns, and its share of what is remembered of
    its record (delivery.in_flight.OVERHEAD)."""
    paths: int = 1
    """That have rows at the same time: each is an object of the window."""


class Bounds(Struct, frozen=True, kw_only=True):
    """What may end a window. None: without that bound."""

    seconds: float = 60.0
    """Age at which a window ends while requests are within their budget."""
    max_seconds: float = 900.0
    """Age at which it ends at the latest, whatever requests cost."""
    rows: int | None = None
    bytes: int | None = None
    """Of all lines of the window, before compression."""
    object_bytes: int = 64 << 20
    """Of the lines of one object, before compression: what is larger is cut into pieces, each a request."""
    memory: int | None = None
    """Bytes that this lane may hold: its share of what windows may (`windows_hold`)."""
    dollars: float | None = None
    """USD a month that this lane may spend on PUT requests: its share of the budget."""
    put_usd: float = PUT_USD
    """Price of one PUT."""


class Window(Struct, frozen=True):
    """A window as it will be on average."""

    seconds: float
    ended_by: Limit
    rows: float
    objects: float
    """Pieces included."""
    puts_a_month: float
    """Claims included."""
    usd_a_month: float
    object_bytes: float
    """Of an object on average."""


def window(flow: Flow, bounds: Bounds) -> Window:
    """The window that these bounds permit at this load."""
    age = max(0.001, min(bounds.seconds, bounds.max_seconds))
    limits: list[tuple[float, Limit]] = [(age, "age")]
    if bounds.dollars is not None and (stretched := _stretched(flow, bounds, age)) > age:
        limits = [(stretched, "cost" if stretched < bounds.max_seconds else "age")]
    if flow.rows > 0:
        by_size: tuple[tuple[int | None, float, Limit], ...] = (
            (bounds.rows, 1.0, "rows"),
            (bounds.bytes, flow.line_bytes, "bytes"),
            (bounds.memory, flow.held_bytes, "memory"),
        )
        limits += [(most / (flow.rows * size), name) for most, size, name in by_size if most is not None and size > 0]
    seconds, ended_by = min(limits, key=lambda each: each[0])
    return _made(flow, bounds, seconds, ended_by)


def _stretched(flow: Flow, bounds: Bounds, age: float) -> float:
    """The shortest window from `age` on that keeps to the budget, or the longest one allowed.

    Only small objects become fewer: once those of a window are cut into pieces, a longer one saves nothing.
    """
    low, high = age, bounds.max_seconds
    if bounds.dollars is None or _made(flow, bounds, low, "age").usd_a_month <= bounds.dollars:
        return low
    if _made(flow, bounds, high, "age").usd_a_month > bounds.dollars:
        lines = max(1e-9, flow.rows * flow.line_bytes)
        whole = bounds.object_bytes * min(flow.paths, max(1.0, flow.rows * high)) / lines
        return max(low, min(high, whole))
    for _ in range(60):  # the cost falls with the length: halving finds it to a fraction of a second
        middle = (low + high) / 2
        within = _made(flow, bounds, middle, "age").usd_a_month <= bounds.dollars
        low, high = (low, middle) if within else (middle, high)
    return high


def _made(flow: Flow, bounds: Bounds, seconds: float, ended_by: Limit) -> Window:
    rows = flow.rows * seconds
    paths = min(float(flow.paths), rows)  # a path without a row in the window is no object
    objects = max(paths, rows * flow.line_bytes / bounds.object_bytes)
    puts = (objects + CLAIM_PUTS) * MONTH / seconds
    size = rows * flow.landed_bytes / objects if objects else 0.0
    return Window(seconds, ended_by, rows, objects, puts, monthly_usd(objects, seconds, bounds.put_usd), size)
