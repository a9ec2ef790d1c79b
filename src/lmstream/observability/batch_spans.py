"""A span for each batch: from the poll that brought its records until the last of them is settled.

Its links are the traces that the records' headers name (W3C trace context, traceparent). A batch has many senders, so
none of them is its parent. https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from lmstream import __version__
from lmstream.delivery.in_flight import Submission
from lmstream.errors import ConfigError, reason_of
from lmstream.model import Record, Status, TopicPartition

try:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as _error:
    raise ConfigError.missing("telemetry.endpoint", "otel") from _error

LINKS: Final = 128
"""Links of one span, the SDK's own default; the rest is counted."""
LISTED: Final = 64
"""Partitions that a span names; the rest is counted."""
OPEN: Final = 2_048
"""Spans that are open at a time: rows that are gathered for long keep theirs open. Further batches have none."""
_HEADER: Final = 55
"""Bytes of a traceparent of version 00 (https://www.w3.org/TR/trace-context/#traceparent-header)."""
_CONTEXT: Final = "traceparent"
_W3C: Final = TraceContextTextMapPropagator()


class BatchSpan:
    """One batch, and what of it is not settled."""

    __slots__ = ("_offsets", "_open", "_owner", "_records", "_span", "given_up", "left", "submission")

    def __init__(self, owner: "BatchSpans", span: Span, records: Sequence[Record]) -> None:
        self._owner, self._span, self._records = owner, span, len(records)
        self.submission: Submission | None = None
        self.left = len(records)
        self.given_up = 0
        self._open: dict[TopicPartition, int] = {}
        self._offsets: dict[TopicPartition, tuple[int, int]] = {}
        for each in records:
            tp = each.tp
            self._open[tp] = self._open.get(tp, 0) + 1
            self._offsets[tp] = (self._offsets[tp][0] if tp in self._offsets else each.offset, each.offset)

    def settled(self, tp: TopicPartition, _epoch: int, _offset: int, _status: Status, /) -> None:
        if tp in self._open:  # else its partition was given up before
            self._open[tp] -= 1
            self.left -= 1
            if not self.left:
                self._owner.end(self)

    def give_up(self, tp: TopicPartition) -> None:
        """The partition has another owner."""
        lost = self._open.pop(tp, 0)
        self.left -= lost
        self.given_up += lost
        if lost and not self.left:
            self._owner.end(self)

    def end(self, code: str = "") -> None:
        """End the span; `code` is that of the error that ended the run."""
        span, named = self._span, list(self._offsets.items())[:LISTED]
        span.set_attribute("lmstream.partitions", [f"{tp.topic}/{tp.partition}" for tp, _ in named])
        span.set_attribute("lmstream.offsets", [f"{first}-{last}" for _, (first, last) in named])
        if len(self._offsets) > LISTED:
            span.set_attribute("lmstream.partitions.more", len(self._offsets) - LISTED)
        found: Mapping[str, int] = {}
        if self.submission is not None:
            found = self.submission.letters
            span.set_attribute("lmstream.rows", self.submission.rows)
        span.set_attribute("lmstream.letters", sum(found.values()))
        if self.given_up:
            span.set_attribute("lmstream.revoked", self.given_up)
        codes = {code: 0} if code else {}
        for reason, many in found.items():
            at = reason_of(reason).code
            codes[at] = codes.get(at, 0) + many
        if codes:
            span.set_attribute("lmstream.codes", list(codes))
            span.set_attribute("error.type", next(iter(codes)))
        if self.left:
            span.set_attribute("lmstream.unsettled", self.left)
            why = f"{self.left} records were not settled when the run ended" + (f": {code}" if code else "")
            span.set_status(StatusCode.ERROR, why)
        elif codes:
            told = ", ".join(f"{code} {many}" for code, many in codes.items())
            span.set_status(StatusCode.ERROR, f"records with a dead letter: {told}")
        span.end()


class BatchSpans:
    """Watches the batches of one run (runtime.assignments.Batches)."""

    def __init__(
        self,
        share: float,
        resource: Mapping[str, str],
        out: Callable[[ReadableSpan], None],
        fault: Callable[[Exception], None],
    ) -> None:
        """`share` of the batches have a span; `out` takes each that has ended, and must not wait; `fault` is told what
        went wrong in here: it costs the span, and ends no run."""
        self._share, self._fault = share, fault
        limits = SpanLimits(max_links=LINKS, max_span_attributes=32, max_attribute_length=512)
        # All of it is said here: the SDK would read the rest from OTEL_ variables.
        provider = TracerProvider(ALWAYS_ON, Resource(dict(resource)), shutdown_on_exit=False, span_limits=limits)
        provider.add_span_processor(_Out(out))
        self._tracer = provider.get_tracer("lmstream", __version__)
        self._open: dict[BatchSpan, None] = {}

    def begun(self, records: Sequence[Record], /) -> BatchSpan | None:
        if len(self._open) >= OPEN or random.random() >= self._share:  # noqa: S311 - a share, no secret
            return None
        try:
            made = BatchSpan(self, self._begin(records), records)
        except Exception as e:  # noqa: BLE001 - whatever the SDK raises: records continue without a span
            self._fault(e)
            return None
        self._open[made] = None
        return made

    def _begin(self, records: Sequence[Record]) -> Span:
        links, more = _links(records)
        attributes = {"messaging.batch.message_count": len(records), "lmstream.records": len(records)}
        if more:
            attributes["lmstream.links.more"] = more
        named = [Link(each) for each in links]
        return self._tracer.start_span("batch", kind=SpanKind.CONSUMER, links=named, attributes=attributes)

    def given_up(self, partitions: Iterable[TopicPartition], /) -> None:
        gone = list(partitions)
        for each in list(self._open):
            for tp in gone:
                each.give_up(tp)

    def end(self, batch: BatchSpan, code: str = "") -> None:
        """A batch is settled, or never will be."""
        del self._open[batch]
        try:
            batch.end(code)
        except Exception as e:  # noqa: BLE001 - as above
            self._fault(e)

    def close(self, code: str) -> None:
        """The run is over; `code` is that of the error that ended it, if any."""
        for batch in list(self._open):
            self.end(batch, code)


class _Out(SpanProcessor):
    """Hands on what has ended."""

    def __init__(self, out: Callable[[ReadableSpan], None]) -> None:
        self._out = out

    def on_end(self, span: ReadableSpan) -> None:
        self._out(span)


def _links(records: Sequence[Record]) -> tuple[list[SpanContext], int]:
    """The contexts that headers name, each once, and how many records had one beyond LINKS."""
    found: dict[bytes, SpanContext] = {}
    valid = more = 0
    for record in records:
        value = next((value for name, value in record.headers if name == _CONTEXT), None) if record.headers else None
        if value is None or len(value) != _HEADER or value in found:
            continue
        if valid >= LINKS:
            more += 1
            continue
        named = _W3C.extract({_CONTEXT: value.decode("ascii", "replace")})
        found[value] = get_current_span(named).get_span_context()
        valid += found[value].is_valid
    return [context for context in found.values() if context.is_valid], more
