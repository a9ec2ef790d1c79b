"""What an invocation answers for what is left: places for a mapping, and one sentence for whoever reads the log."""

import pytest

from lmstream.hosts.awslambda.answers import Remainder, partial, undelivered
from lmstream.model import Failure, Kind, TopicPartition

TP = TopicPartition("lm.metrics.otlp", 3)


def failure(code, message):
    return Failure(Kind.RETRYABLE, code, message)


@pytest.mark.parametrize(
    ("places", "failures", "said"),
    [
        ([(TP, 7)], [], "1 of 2,000 records are undelivered, the first is lm.metrics.otlp/3/7: no request was made"),
        (
            [(None, None), (TP, 7), (TP, 8)],
            [failure("a", "x" * 400), failure("b", "y"), failure("c", "z"), failure("d", "more")],
            f"3 of 2,000 records are undelivered, the first is lm.metrics.otlp/3/7: a: {'x' * 300}; b: y; c: z",
        ),
        (
            [(None, None)] * 1500,
            [failure("a", "x")],
            "1,500 of 2,000 records are undelivered, the first is without coordinates: a: x",
        ),
    ],
)
def test_what_is_undelivered_is_one_sentence(places, failures, said):
    error = undelivered(Remainder(places, failures), 2000)
    assert (error.reason, error.detail) == ("event.undelivered", said)


def test_a_partial_answer_names_each_place_once_in_order_or_nothing():
    other = TopicPartition("lm.metrics.otlp", 12)
    named = partial([(other, 5), (TP, 9), (TP, 7), (TP, 9)])
    assert [each["itemIdentifier"] for each in named["batchItemFailures"]] == [
        {"partition": "lm.metrics.otlp-3", "offset": 7},
        {"partition": "lm.metrics.otlp-3", "offset": 9},
        {"partition": "lm.metrics.otlp-12", "offset": 5},
    ]
    assert partial([]) == {"batchItemFailures": []}
    assert partial([(TP, 7), (None, 3)]) is None
    assert partial([(TP, None), (TP, 7)]) is None
