"""What an invocation tells: one line of metrics, a warning for each record that was not simply delivered.

Logger and Metrics are Powertools'; POWERTOOLS_SERVICE_NAME, POWERTOOLS_METRICS_NAMESPACE and POWERTOOLS_LOG_LEVEL work
as documented there. Never a line per row, never a payload.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lmstream.errors import coded
from lmstream.interfaces import DeadLetterSink
from lmstream.model import DeadLetter
from lmstream.observability.metrics_catalogue import BY_NAME

NAMED: Final = 20
"""Records that are named in one invocation's warnings; the rest is a number."""
_DETAIL: Final = 500
_NAME: Final = "lmstream"


class RecordingDeadLetterSink:
    """A dead-letter sink that remembers what was written since it was last asked."""

    def __init__(self, sink: DeadLetterSink) -> None:
        self._sink = sink
        self.largest: int = sink.largest
        self.written: dict[tuple[str, int, int], DeadLetter] = {}

    async def check(self) -> None:
        await self._sink.check()

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        await self._sink.write(letters)
        self.written |= {(each.topic, each.partition, each.offset): each for each in letters}

    async def close(self) -> None:
        await self._sink.close()

    def taken(self) -> list[DeadLetter]:
        """Letters written since the last call."""
        written, self.written = self.written, {}
        return list(written.values())


class InvocationTelemetry:
    """Powertools' logger and metrics, made once an environment."""

    def __init__(self) -> None:
        from aws_lambda_powertools import Logger, Metrics  # noqa: PLC0415 - 30 ms, and only in Lambda

        service = os.environ.get("POWERTOOLS_SERVICE_NAME") or _NAME
        self._log = Logger(service=service, utc=True)
        self._metrics = Metrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or _NAME, service=service)
        self._cold = True
        self._unknown_told = False

    def invocation(self, numbers: Mapping[str, float], letters: Sequence[DeadLetter], request_id: str) -> None:
        """Report one invocation that came to an answer, good or bad."""
        cold, self._cold = self._cold, False
        numbers = {**numbers, "lmstream_cold_starts_total": int(cold)}
        for letter in letters[:NAMED]:
            self._log.warning(
                "dead-lettered",
                topic=letter.topic,
                partition=letter.partition,
                offset=letter.offset,
                code=letter.code,
                reason=letter.reason,
                detail=letter.detail[:_DETAIL],
                request_id=request_id,
            )
        more = Counter((letter.code, letter.reason) for letter in letters[NAMED:])
        for (code, reason), records in more.items():
            what = "more records were dead-lettered"
            self._log.warning(what, records=records, code=code, reason=reason, request_id=request_id)
        found = {BY_NAME[name].emf: number for name, number in numbers.items()}
        # The metrics' own line holds the same numbers: this one is for who looks closer, and is not paid for else.
        self._log.debug("invocation", extra={"cold_start": cold, "request_id": request_id, **found})
        for name, number in numbers.items():
            metric = BY_NAME[name]
            if number or name in _ALWAYS:
                self._metrics.add_metric(name=metric.emf, unit=metric.unit, value=number)
        self._metrics.flush_metrics()

    def unknown(self, names: Mapping[str, str], request_id: str) -> None:
        """Tell once of fields that OTLP metrics do not define; `names` has the coordinates of a record with each."""
        if names and not self._unknown_told:
            self._unknown_told = True
            self._log.warning(
                "fields that OTLP metrics do not define, in parts that gave no data point",
                members=[name[:_DETAIL] for name in names],
                record=next(iter(names.values())),
                request_id=request_id,
                extra=coded("decode.not_understood"),
            )

    def undelivered(self, error: Exception, answered: Mapping[str, Any] | None, request_id: str) -> None:
        """Tell that records are left to the source, and why."""
        self._log.error(
            str(error),
            code=getattr(error, "code", ""),
            answer="partial" if answered else "raised",
            request_id=request_id,
        )


_ALWAYS: Final = frozenset(
    {"lmstream_bundles_consumed_total", "lmstream_records_undelivered_total", "lmstream_rows_decoded_total"}
)
"""Told when they are 0 too: an alarm must see a number to know that all is well, or that there are no rows."""
