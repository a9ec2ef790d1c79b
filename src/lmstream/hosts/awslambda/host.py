"""One environment's host: engine, pipeline and clients, kept between invocations, on one event loop of their own."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

from lmstream.aws.threaded import Client
from lmstream.config import Config, build_pipeline, cluster_of, crashes_in, load
from lmstream.config.plugins import Part
from lmstream.config.validation import IN_LAMBDA, refuse
from lmstream.dead_letters import form
from lmstream.delivery import process
from lmstream.errors import ConfigError
from lmstream.hosts.awslambda import answers, clients
from lmstream.hosts.awslambda.telemetry import InvocationTelemetry, RecordingDeadLetterSink
from lmstream.interfaces import Batch, DeadLetterSink
from lmstream.kafka import lambda_events as events
from lmstream.model import NOT_TRIED, Failure, Kind, Status
from lmstream.observability.metrics_catalogue import total, values

DEFAULTS: Final = {
    "LMSTREAM_DELIVERY__TIMEOUT": "10",
    "LMSTREAM_SINK__CONNECT_TIMEOUT": "2",
    "LMSTREAM_SINK__READ_TIMEOUT": "6",
    "LMSTREAM_SINK__CALL_TIMEOUT": "9",
}
"""Shorter than a container's: no request starts that could end after the invocation."""
_TIMEOUT: Final = "LMSTREAM_DELIVERY__TIMEOUT"


class Context(Protocol):
    """What we need of the context that the runtime passes."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


class Host:
    """Handles invocations one after the other, as Lambda makes them."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError for all that is wrong with the settings. Connects to nothing yet."""
        refuse(config, IN_LAMBDA)
        self._settings = config.function
        self._policy = config.delivery
        self._clients: list[Client] = []
        self._letters = RecordingDeadLetterSink(self._letters_of(config))
        # The breaker stays off: an invocation has nobody who could look, and the records expire meanwhile.
        guard = crashes_in(config.run.state_dir, cluster_of(config))
        self._pipeline = build_pipeline(config, self._made(config.need("sink")), self._letters, guard)
        self._telling: InvocationTelemetry | None = None
        self._loop = asyncio.new_event_loop()

    def handle(
        self, event: object, context: Context | None, kind: Literal["pipe", "mapping"] | None = None
    ) -> dict[str, Any]:
        """Deliver an event's records, and answer so that the source sends again what is not delivered, and only that as
        far as it can be told to.

        Raises ConfigError for an event of another shape (or another `kind` than wanted), SinkError `event.undelivered`
        for what is left when there is no partial answer.
        """
        started = time.monotonic()
        parsed = events.parse(event)
        if kind is not None and parsed.kind != kind:
            raise ConfigError("event.shape", f"the event is from a {parsed.kind}, and this handler is for a {kind}")
        return self._loop.run_until_complete(self._handle(parsed, context, started))

    def close(self) -> None:
        """End what belongs to the host; for tests, because Lambda only ever kills."""
        self._loop.run_until_complete(self._pipeline.close())
        self._loop.close()
        for client in self._clients:
            client.close()

    async def _handle(self, event: events.Event, context: Context | None, started: float) -> dict[str, Any]:
        seconds = self._settings.patience
        if context is not None:
            seconds = min(seconds, context.get_remaining_time_in_millis() / 1000 - self._settings.margin)
        deadline = started + seconds
        before = self._numbers()
        faulty = asyncio.ensure_future(
            self._pipeline.letters.deliver([each.letter for each in event.faulty], deadline, "envelopes")
            if event.faulty
            else asyncio.sleep(0)
        )
        try:
            outcome = await process(self._pipeline, Batch(event.records), deadline)
        finally:
            letters_failure = await faulty
        places: list[answers.Place] = [
            (record.tp, record.offset)
            for record, status in zip(event.records, outcome.statuses, strict=True)
            if status is Status.PENDING
        ]
        failures = list(outcome.failures)
        numbers = {name: number - before[name] for name, number in self._numbers().items()}
        if letters_failure is None:
            numbers["lmstream_dead_letters_total"] += len(event.faulty)
        else:
            places += [(each.tp, each.offset) for each in event.faulty]
            failures.append(letters_failure)
        if places and seconds < self._policy.timeout:
            failures = [failure for failure in failures if failure.code != NOT_TRIED.code]
            failures.insert(0, self._no_time(seconds))
        records = len(event.records) + len(event.faulty)
        numbers["lmstream_bundles_consumed_total"] = records - len(places)
        numbers["lmstream_records_undelivered_total"] = len(places)
        numbers["lmstream_process_duration_seconds"] = time.monotonic() - started
        return self._answer(event, records, answers.Remainder(places, failures), numbers, context)

    def _answer(
        self,
        event: events.Event,
        records: int,
        left: answers.Remainder,
        numbers: Mapping[str, float],
        context: Context | None,
    ) -> dict[str, Any]:
        request_id = context.aws_request_id if context is not None else ""
        telling = self._telling = self._telling or InvocationTelemetry()
        telling.invocation(numbers, self._letters.taken(), request_id)
        telling.unknown(self._pipeline.snapshot().unknown, request_id)
        if not left.places:
            return {"batchItemFailures": []} if event.kind == "mapping" else {"records": records}
        error = answers.undelivered(left, records)
        answer = None
        if event.kind == "mapping" and self._settings.partial_failures:
            answer = answers.partial(left.places)
        telling.undelivered(error, answer, request_id)
        if answer is None:
            raise error
        return answer

    def _numbers(self) -> dict[str, float]:
        """Counts since the start, by the catalogue's names."""
        return {metric.name: total(value) for metric, value in values(self._pipeline.counts) if metric.emf}

    def _letters_of(self, config: Config) -> DeadLetterSink:
        part = config.dead_letters
        assert part is not None  # noqa: S101 - for the type checker: IN_LAMBDA has looked
        sink: DeadLetterSink = self._made(part)
        form.refuse_small(f"dead_letters.type {part.name}", sink.largest, config.engine.limits)
        return sink

    def _made(self, part: Part) -> Any:
        """Make a part, over the runtime's own boto3 when it calls a service of AWS."""
        if not part.traits.service:
            return part.make()
        client = clients.client_of(part.traits.service, part.settings)
        self._clients.append(client)
        return part.make(client=client)

    def _no_time(self, seconds: float) -> Failure:
        settings = self._settings
        need = self._policy.timeout
        return Failure(
            Kind.RETRYABLE,
            "no_time",
            f"{max(0.0, seconds):.1f} s were left after the margin of {settings.margin:g} s, and one request may take "
            f"{need:g} s: raise the function's timeout or lower LMSTREAM_DELIVERY__TIMEOUT",
        )


def from_environment(env: Mapping[str, str]) -> Host:
    """A host by LMSTREAM_* variables. Raises ConfigError."""
    sink = env.get("LMSTREAM_SINK__TYPE", "firehose")
    try:  # what a request may take follows the time that there is for one
        share = min(1.0, float(env[_TIMEOUT]) / float(DEFAULTS[_TIMEOUT]))
    except (KeyError, ValueError):
        share = 1.0
    defaults = {
        name: f"{float(text) * (share if '_SINK__' in name else 1):g}"
        for name, text in DEFAULTS.items()
        if sink == "firehose" or "_SINK__" not in name
    }
    return Host(load(env={"LMSTREAM_SINK__TYPE": sink, **defaults, **env}, looks=IN_LAMBDA))
