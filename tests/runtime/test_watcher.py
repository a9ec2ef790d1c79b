"""What a run says, and when it gives up: decided from snapshots alone, without a clock and without a log."""

import logging

import msgspec
import pytest

from lmstream.delivery import Counts, Snapshot
from lmstream.delivery.latency_histogram import LatencyHistogram
from lmstream.errors import SinkError
from lmstream.model import Failure, Kind
from lmstream.runtime.watcher import NEWS, Watcher
from lmstream.testing import DOWN
from support.doubles import MISSING

CALM = Snapshot(
    counts=Counts(),
    in_flight=0,
    in_flight_bytes=0,
    budget=1,
    body_bytes=0,
    fatal=None,
    tripped=None,
    refusals={},
    sink_trouble=None,
    concurrency=8,
    next_object=None,
    request_durations=LatencyHistogram(),
    letters_trouble=None,
    letters_waiting=0,
    oldest_letter="",
    waiting_records=0,
    waiting_hour="",
    partitions_active=0,
    partitions_quota=500,
    partitions_overflow=0,
    unknown={},
)


def seen(**more):
    return msgspec.structs.replace(CALM, **more)


def said(watcher, now, **more):
    return [(notice.level, notice.text, notice.extra["reason"]) for notice in watcher.look(seen(**more), now)]


def test_a_calm_run_says_nothing():
    watcher = Watcher(0.0)
    assert [said(watcher, now) for now in range(5)] == [[]] * 5
    assert watcher.looked_at == 4


def test_a_sink_that_fails_is_said_once_and_only_after_a_while_and_so_is_its_return():
    watcher = Watcher(0.0)
    assert said(watcher, 1.0, sink_trouble=DOWN) == []
    assert said(watcher, 1.0 + NEWS - 0.1, sink_trouble=DOWN) == []
    ((level, text, reason),) = said(watcher, 1.0 + NEWS, sink_trouble=DOWN)
    assert (level, reason) == (logging.WARNING, "sink.unreachable")
    assert text == "the sink accepts no rows; they wait and are retried: InternalFailure: no luck"
    assert said(watcher, 50.0, sink_trouble=DOWN) == []
    assert said(watcher, 61.0) == [(logging.WARNING, "the sink accepts rows again after 60 s", "sink.unreachable")]
    assert said(watcher, 62.0) == []


def test_one_throttle_is_no_news():
    watcher = Watcher(0.0)
    assert said(watcher, 1.0, sink_trouble=DOWN) + said(watcher, 1.0 + NEWS / 2) + said(watcher, 60.0) == []


def test_a_wrong_configuration_is_an_error_at_once_and_is_waited_out_without_patience():
    watcher = Watcher(0.0)
    ((level, text, reason),) = said(watcher, 1.0, fatal=MISSING, sink_trouble=MISSING)
    assert (level, reason) == (logging.ERROR, "sink.missing")
    assert text.startswith("reading is paused until an operator acts: ")
    assert "no such stream" in text
    assert said(watcher, 1e9, fatal=MISSING, sink_trouble=MISSING) == []
    ((_, text, _),) = said(watcher, 1e9 + 1)  # its return is news
    assert text.startswith("the sink accepts rows again after")


def test_a_refusal_that_may_be_of_one_pack_says_so():
    unsure = Failure(Kind.FATAL_CONFIG, "InvalidArgumentException", "records", unsure=True)
    ((_, text, reason),) = said(Watcher(0.0), 1.0, fatal=unsure)
    assert "until an operator acts, or another pack is taken: " in text
    assert reason == "sink.refused"


def test_patience_counts_from_the_first_look_at_what_is_wrong_and_anew_after_it_was_right():
    watcher = Watcher(0.0, patience=5.0)
    assert len(said(watcher, 10.0, fatal=MISSING)) == 1
    assert said(watcher, 14.9, fatal=MISSING) == []
    assert said(watcher, 14.95) == []  # what failed so shortly was never said to fail, but for the error
    assert len(said(watcher, 15.0, fatal=MISSING)) == 1
    assert said(watcher, 19.9, fatal=MISSING) == []
    with pytest.raises(SinkError) as caught:
        said(watcher, 20.0, fatal=MISSING)
    assert caught.value.reason == "sink.missing"


def test_no_patience_at_all_still_says_why():
    watcher = Watcher(0.0, patience=0.0)
    notices = []
    with pytest.raises(SinkError):  # noqa: PT012 - what is said before it is raised counts
        for notice in watcher.look(seen(fatal=MISSING), 1.0):
            notices.append(notice.level)  # noqa: PERF401 - a comprehension would lose them
    assert notices == [logging.ERROR]


def test_letters_that_wait_and_are_durable_again_are_said_once_each():
    watcher, full = Watcher(0.0), Failure(Kind.RETRYABLE, "unknown_outcome", "No space left on device")
    wait = {"letters_trouble": full, "oldest_letter": "t/0/7", "letters_waiting": 3}
    ((level, text, reason),) = said(watcher, 1.0, **wait)
    assert (level, reason) == (logging.ERROR, "dead_letters.unavailable")
    assert text == (
        "dead letters cannot be written, t/0/7 and 2 more wait, their partitions are not committed: "
        "No space left on device"
    )
    assert said(watcher, 2.0, **wait) == []
    assert said(watcher, 3.0) == [(logging.WARNING, "dead letters are durable again", "dead_letters.unavailable")]


def test_hours_that_wait_are_said_once_with_the_oldest():
    watcher = Watcher(0.0)
    wait = {"waiting_records": 4, "waiting_hour": "2024-05-09T02", "partitions_active": 499}
    ((_, text, reason),) = said(watcher, 1.0, **wait)
    assert reason == "sink.partitions"
    assert text == (
        "499 of 500 partitions are active: records from 2024-05-09T02 on wait until older hours are written"
    )
    assert said(watcher, 2.0, **wait) == []
    assert said(watcher, 3.0) == [(logging.WARNING, "no hour waits for room any more", "sink.partitions")]


def test_unknown_members_are_said_once_for_good():
    watcher, unknown = Watcher(0.0), {"$.a": "t/0/1", "$.b": "t/0/2"}
    ((_, text, reason),) = said(watcher, 1.0, unknown=unknown)
    assert reason == "decode.not_understood"
    assert text.startswith("t/0/1: fields that OTLP metrics do not define")
    assert text.endswith(": $.a, $.b")
    assert said(watcher, 2.0, unknown=unknown) == []
    assert list(watcher.members(seen(unknown=unknown))) == []


def test_a_settled_record_is_noticed_at_the_next_look():
    watcher, counts = Watcher(0.0), Counts()
    assert said(watcher, 5.0, counts=counts, in_flight=1) == []
    assert watcher.settled_at == 0.0
    counts.dead_letters += 1
    said(watcher, 6.0, counts=counts, in_flight=1)
    said(watcher, 7.0, counts=counts, in_flight=1)
    assert watcher.settled_at == 6.0


def test_a_record_that_comes_after_hours_of_quiet_is_not_one_that_does_not_settle():
    watcher = Watcher(0.0)
    said(watcher, 7200.0)
    said(watcher, 7200.1, in_flight=1)
    assert watcher.settled_at == 7200.0
