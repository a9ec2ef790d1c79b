"""What a run waits for just now, in a few words: what a person asks who looks at numbers that do not move."""

from typing import Final

from lmstream.abilities import Health
from lmstream.observability.readings import Readings
from lmstream.runtime import RunSnapshot
from lmstream.settings import MIB

_BY_STATE: Final = {
    "starting": "joining",
    "recreating": "joining again",
    "suspect": "waiting for an answer of",
    "draining": "giving back partitions of",
    "stopped": "leaving",
}
"""States of a source that keeps a member in its group: what it does with the group."""


def waits_for(readings: Readings) -> str:
    """One phrase without a full stop."""
    run, health = readings.runtime.snapshot(), readings.health
    seen = run.pipeline
    if run.state == "draining":
        return f"draining: {seen.in_flight:,} records in flight are settled first"
    if seen.fatal is not None:
        return f"paused by {seen.fatal.code}, until an operator acts"
    if run.state == "starting":
        return "starting"
    if health is not None and (health.state != "running" or health.missing):
        return _of_source(health, readings.group)
    if seen.letters_trouble is not None:
        return f"waiting for dead letters to be written: {seen.letters_trouble.code}"
    return _of_sink(run, readings.runtime.pipeline.room)


def _of_source(health: Health, group: str | None) -> str:
    if health.state == "running":
        return f"waiting for topics that are not there: {', '.join(health.missing)}"
    of = f"group {group}" if group else "the group"
    why = f": {health.last_error}" if health.last_error and health.state != "starting" else ""
    return f"{_BY_STATE[health.state]} {of}{why}"


def _of_sink(run: RunSnapshot, room: int) -> str:
    seen = run.pipeline
    if seen.sink_trouble is not None:
        return f"retrying the sink: {seen.sink_trouble.code}"
    if seen.waiting_records:
        what = f"{seen.waiting_records:,} records from {seen.waiting_hour} on"
        return f"{what} wait for room among the stream's partitions"
    if room <= 0:
        held = f"{seen.in_flight_bytes / MIB:,.0f} of {seen.budget / MIB:,.0f} MiB are in flight"
        return f"waiting for the sink: {held}"
    if seen.next_object is not None:
        return f"gathering rows: the next object in {seen.next_object:,.0f} s at most"
    return "delivering" if seen.in_flight else "waiting for records"
