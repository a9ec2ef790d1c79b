"""Where a run stands, in numbers that can be added up over workers and sent from one process to another."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import msgspec
from msgspec import Struct, field

from lmstream.behind import taken, worst
from lmstream.delivery import Sums
from lmstream.observability.readings import Readings
from lmstream.observability.waits_for import waits_for
from lmstream.runtime import Progress

_OLD: Final = 5.0  # seconds behind from which on it is of interest when retention takes it
_UNKNOWN: Final = 10  # names of unknown fields, as one worker keeps


class Standing(Struct, kw_only=True):
    """One run, or several workers of one."""

    progress: Progress
    workers: dict[str, str] = field(default_factory=dict)
    """What each waits for, by the name of the worker; under "" that of a run without workers."""
    partitions: int = 0
    lag: int | None = None
    """Records that are not settled; None when it is not known of any partition."""
    behind: float | None = None
    """Seconds: age of the oldest record that is not settled."""
    warning: str = ""
    """Until when the oldest record is safe, where that is of interest."""
    soon: bool = False
    """Whether that is soon."""
    budget: int = 0
    concurrency: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    """To the sink, by outcome."""

    @classmethod
    def of(cls, progress: Progress, readings: Readings | None, name: str = "") -> Self:
        """The standing of one process; without `readings` what `progress` says alone."""
        if readings is None:
            return cls(progress=progress)
        seen, partitions = readings.runtime.pipeline.snapshot(), readings.partitions()
        known = [each.records for each in partitions if each.records is not None]
        first = worst(partitions)
        warned = first is not None and (first.soon or (first.seconds or 0.0) >= _OLD)
        return cls(
            progress=progress,
            workers={name: waits_for(readings)},
            partitions=len(partitions),
            lag=sum(known) if known else None,
            behind=max((each.seconds for each in partitions if each.seconds is not None), default=None),
            warning=taken(first, time.time()) if first is not None and warned else "",
            soon=first is not None and first.soon,
            budget=seen.budget,
            concurrency=seen.concurrency,
            requests=dict(seen.counts.requests),
        )


def summed(standings: Sequence[Standing]) -> Standing:
    """Several workers as one run."""
    warned = sorted((each for each in standings if each.warning), key=lambda each: not each.soon)
    return Standing(
        progress=added([each.progress for each in standings]),
        workers={name: text for each in standings for name, text in each.workers.items()},
        partitions=sum(each.partitions for each in standings),
        lag=_most([each.lag for each in standings], sum),
        behind=_most([each.behind for each in standings], max),
        warning=warned[0].warning if warned else "",
        soon=any(each.soon for each in standings),
        budget=sum(each.budget for each in standings),
        concurrency=sum(each.concurrency for each in standings),
        requests=_counted([each.requests for each in standings]),
    )


def added(several: Sequence[Progress]) -> Progress:
    """The progress of several workers as one: counts are added, the duration is the longest, trouble is the first."""
    found: dict[str, Any] = {}
    for name in Progress.__struct_fields__:
        values = [getattr(each, name) for each in (Progress(), *several)]
        if name == "duration":
            found[name] = max(values)
        elif name == "sums":
            found[name] = Sums(**{each: sum(getattr(one, each) for one in values) for each in Sums.__struct_fields__})
        elif name == "unknown":
            found[name] = list(dict.fromkeys(each for one in values for each in one))[:_UNKNOWN]
        elif name in {"trouble", "fatal"}:
            found[name] = next((each for each in values if each is not None), None)
        elif isinstance(values[0], Mapping):
            found[name] = _counted(values)
        else:
            found[name] = sum(values)
    return Progress(**found)


def _counted(several: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in several:
        total.update(each)
    return dict(total)


def _most(values: Sequence[Any], how: Any) -> Any:
    known = [each for each in values if each is not None]
    return how(known) if known else None


def packed(standing: Standing) -> bytes:
    """As bytes, for another process."""
    return msgspec.msgpack.encode(standing)


def unpacked(data: bytes) -> Standing:
    """What `packed` made."""
    return msgspec.msgpack.decode(data, type=Standing)
