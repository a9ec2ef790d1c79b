"""Names and patterns of topics, without a broker."""

import re

import pytest

from lmstream.errors import ConfigError
from lmstream.sources._topics import Wanted

THERE = ["lm.metrics", "lm.metrics.eu", "lm.metricsX", "lm", "other", "__consumer_offsets", "__lm"]


@pytest.mark.parametrize(
    ("topics", "found", "missing"),
    [
        (["lm.metrics"], {"lm.metrics"}, ()),
        (["lm.metrics", "none"], {"lm.metrics"}, ("none",)),
        (["^lm[.]metrics.*"], {"lm.metrics", "lm.metrics.eu", "lm.metricsX"}, ()),
        (["^lm[.]metrics"], {"lm.metrics"}, ()),  # the whole name
        (["^lm|other"], {"lm", "other"}, ()),
        (["^nothing.*"], set(), ("^nothing.*",)),
        (["^.*"], {"lm.metrics", "lm.metrics.eu", "lm.metricsX", "lm", "other"}, ()),  # never Kafka's own
        (["__lm"], {"__lm"}, ()),  # but by its name
        (["other", "^lm"], {"other", "lm"}, ()),
    ],
)
def test_what_is_read_of_what_there_is(topics, found, missing):
    wanted = Wanted(topics)
    assert wanted.of(THERE) == found
    assert wanted.missing(THERE) == missing


def test_a_start_waits_for_patterns_and_for_names_only_when_told_so():
    wanted = Wanted(["a", "^b.*"])
    assert wanted.absent(["x"], wait=False) == ("a",)
    assert wanted.absent(["x"], wait=True) == ()


@pytest.mark.parametrize("topics", [[], ["^("], ["a", "^[z-a]"]])
def test_no_topic_and_no_expression_are_refused(topics):
    with pytest.raises(ConfigError, match=re.escape(topics[-1]) if topics else "no topic is named"):
        Wanted(topics)
