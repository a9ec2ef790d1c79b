"""What the clients repeat while a broker is away is held back and counted; what is news passes."""

import io
import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from lmstream.observability.calm import KINDS, SAID, Calm
from lmstream.observability.logs import handler, logging_to

KAFKA, CLIENT = "lmstream.sources.kafka", "lmstream.sources.kafka.librdkafka"


def record(text, *args, name=KAFKA, level=logging.WARNING):
    return logging.LogRecord(name, level, "", 0, text, args, None)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_client_that_repeats_itself_is_let_through_thrice_a_minute_and_then_says_how_often_it_was():
    clock, said = Clock(), []
    calm = Calm(clock)
    for second in range(130):
        clock.now = float(second)
        for n in range(30):
            text = f"FAIL [thrd:127.0.0.1:{40000 + n}/1]: b-{n}:9092/1: Connect failed (after {n}ms in state CONNECT)"
            line = record(text, name=CLIENT, level=logging.ERROR)
            if calm.filter(line):
                said.append(line.getMessage())
    assert len(said) == 3 * SAID
    assert "(1797 more like this in the last 60 s)" in said[SAID]


def test_what_differs_is_another_kind_and_what_is_ours_and_an_error_always_passes():
    calm = Calm(Clock())
    for _ in range(SAID):
        assert calm.filter(record("no new consumer, next attempt in %.1f s: %s", 1.0, "x"))
    assert not calm.filter(record("no new consumer, next attempt in %.1f s: %s", 2.0, "y"))
    assert calm.filter(record("another thing"))
    for n in range(100):
        assert calm.filter(record("t/%d/5: offsets are gone", n, level=logging.ERROR))
        assert calm.filter(record("t/%d/5 is dead-lettered", n, name="lmstream.dead_letters"))
        assert calm.filter(record("librdkafka says: x", name="somebody.else", level=logging.ERROR))


@given(st.lists(st.text(max_size=300), max_size=50))
def test_no_text_breaks_it_and_what_it_remembers_is_bounded(texts):
    calm = Calm(Clock())
    for n in range(KINDS + 10):
        calm.filter(record("a" * (n + 1)))
    for text in texts:
        calm.filter(record(text, name=CLIENT, level=logging.ERROR))
    assert len(calm._kinds) <= KINDS


def test_the_lines_of_a_run_go_through_it():
    stream = io.StringIO()
    with logging_to(handler(json=True, stream=stream)):
        for n in range(100):
            logging.getLogger(CLIENT).error("%d brokers are down", n)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [
        f"{n} brokers are down" for n in range(SAID)
    ]
