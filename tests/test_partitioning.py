"""Tokens and paths: safe whatever the text, and the same as Firehose would make with real jq."""

import json
import re
import string

import jq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine, Record, Settings
from lmstream.errors import ConfigError
from lmstream.partitioning import firehose_prefix, jq_query, metric_keys, token
from lmstream.settings import HIVE_PATH

HOSTILE = [
    "../",
    "..",
    ".",
    "/",
    "\0",
    "a\nb",
    "🦆",
    "x" * 2000,
    "",
    " ",
    "-rf",
    "=1+1",
    "a=b",
    "%2e",
    "CON",
    "\u202ea",
    "_x",
]
TEMPLATES = [
    Settings().path,
    HIVE_PATH,
    "lake/{orgKey}/{yyyy}-{MM}-{dd}/",
    "{orgKey}/{yyyy}/{MM}/{dd}/{HH}/{metricKey}/",
]

text = st.text() | st.sampled_from(HOSTILE) | st.text("./\\_-a0 ", max_size=6)


@given(text)
def test_a_token_is_one_safe_path_segment(name):
    made = token(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", made)
    assert made == token(name)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", name):
        assert made == name


@given(st.lists(text, unique=True, min_size=2, max_size=20))
def test_different_texts_get_different_tokens(names):
    assert len({token(name) for name in names}) == len(names)


def test_tokens_are_frozen():
    assert token("CpuUsage") == "CpuUsage"
    assert token("") == "_empty"
    assert token("a/b") == "a_b-0debd2558bca8fa0"
    assert token("../etc") == "_._etc-" + token("../etc")[-16:]
    assert len(token("x" * 2000)) == 128


@given(text, st.integers(1, 1000))
def test_metric_keys_depend_on_name_and_settings_only(name, buckets):
    grouped = metric_keys(Settings(metric_key="buckets", metric_buckets=buckets))
    assert grouped(name) in {f"b{n:0{len(str(buckets - 1))}d}" for n in range(buckets)}
    allowed = metric_keys(Settings(metric_key="allow", metric_allow=("CpuUsage",)))
    assert allowed(name) == ("CpuUsage" if name == "CpuUsage" else "_other")


def bundle(org, metric, milliseconds):
    point = {"timeUnixNano": str(milliseconds * 1_000_000), "asInt": "1"}
    return json.dumps(
        {
            "resourceMetrics": [
                {
                    "resource": {"attributes": [{"key": "org", "value": {"stringValue": org}}]},
                    "scopeMetrics": [{"metrics": [{"name": metric, "gauge": {"dataPoints": [point]}}]}],
                }
            ]
        }
    ).encode()


PROGRAMS = {path: jq.compile(jq_query(Settings(path=path))) for path in TEMPLATES}


@given(
    text.filter(bool),
    text,
    st.integers(946_684_800_000, 4_133_980_799_999),
    st.sampled_from(TEMPLATES),
    st.sampled_from(["metric", "buckets", "allow"]),
)
def test_our_path_is_the_one_firehose_makes_with_real_jq(org, metric, milliseconds, path, keys):
    settings = Settings(path=path, org_attributes=("org",), metric_key=keys)
    record = Record(topic="t", partition=0, offset=0, value=bundle(org, metric, milliseconds))
    (group,) = Engine(settings).fan_out(record).groups
    found = PROGRAMS[path].input_text(group.data.decode()).first()
    made = firehose_prefix(settings)
    for key, value in found.items():
        assert f"!{{partitionKeyFromQuery:{key}}}" in made
        made = made.replace(f"!{{partitionKeyFromQuery:{key}}}", value)
    assert made == group.path
    assert set(made) <= set(string.ascii_letters + string.digits + "_.-=/")
    assert not {"", ".", ".."} & set(made.rstrip("/").split("/"))


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("{orgKey}/{metric}/{yyyy}/{MM}/{dd}/", "unknown field"),
        ("{orgKey}/{yyyy}/{MM}/{dd}", "must end with one"),
        ("/{orgKey}/{yyyy}/{MM}/{dd}/", "must not begin with a slash"),
        ("{orgKey}//{yyyy}/{MM}/{dd}/", "two in a row"),
        ("../{orgKey}/{yyyy}/{MM}/{dd}/", "a segment"),
        ("{orgKey}/{orgKey}/{yyyy}/{MM}/{dd}/", "twice"),
        ("{metricKey}/{yyyy}/{MM}/{dd}/", "at least"),
        ("{orgKey} {yyyy}/{MM}/{dd}/", "not safe"),
        ("{orgKey}/{yyyy}/{MM}/{dd}/{", "not safe"),
        (".landing/{orgKey}/{yyyy}/{MM}/{dd}/", "begins with a dot"),
        ("x{orgKey}-{metricKey}/{yyyy}/{MM}/{dd}/", "255"),
    ],
)
def test_a_path_template_that_cannot_work_is_refused(path, problem):
    with pytest.raises(ConfigError, match=problem):
        Engine(Settings(path=path))
