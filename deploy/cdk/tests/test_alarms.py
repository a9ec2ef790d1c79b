"""Alarms on the source, in its three states: not enabled, reading, and enabled while nobody reads."""

import json
import re

import pytest

from conftest import changed, synthesized
from lmstream.deployment.estimate import alarms as alarms_of

BROKERS = {"disk", "offline-partitions", "under-replicated", "unread"}
READING = {"retention", "lag", "unread", "silence"}


def by_name(made):
    alarms = made.resources("AWS::CloudWatch::Alarm").values()
    prefix = f"{made.deployment.name}-"
    return {each["Properties"]["AlarmName"].removeprefix(prefix): each["Properties"] for each in alarms}


@pytest.fixture(scope="module")
def enabled(default, tmp_path_factory):
    return synthesized(changed(default.deployment, transform={"enabled": True}), tmp_path_factory.mktemp("enabled"))


def value(alarm, points):
    """What the alarm's metric is for data points by metric name; None without data, as in CloudWatch."""
    if "MetricName" in alarm:
        return points.get(alarm["MetricName"])
    names = {
        one["Id"]: points.get(one["MetricStat"]["Metric"]["MetricName"])
        for one in alarm["Metrics"]
        if "MetricStat" in one
    }
    (expression,) = [one["Expression"] for one in alarm["Metrics"] if "Expression" in one]

    filled = names  # FILL of a metric that never had a point has nothing to fill between: no data either
    if any(known is None for known in filled.values()):
        return None
    text = re.sub(r"FILL\((\w+), 0\)", r"\1", expression).replace("AND", "and")
    place = {"IF": lambda true, yes, no: yes if true else no, "SUM": sum, "MAX": max, **filled}
    return eval(text, {"__builtins__": {}}, place)


def rings(alarm, **points):
    """Whether these data points, or their absence, are breaching."""
    found = value(alarm, points)
    if found is None:
        return alarm["TreatMissingData"] == "breaching"
    over = alarm["ComparisonOperator"] == "GreaterThanThreshold"
    return found > alarm["Threshold"] if over else found < alarm["Threshold"]


def test_nothing_rings_for_a_source_that_is_not_enabled_yet(default):
    assert not READING & set(by_name(default))
    assert all(alarm["TreatMissingData"] == "notBreaching" for alarm in by_name(default).values())


def test_a_source_that_reads_is_quiet_until_it_falls_behind(enabled):
    alarms = by_name(enabled)
    assert set(alarms) >= READING
    quarter = enabled.deployment.cluster.retention_hours * 3600 / 4
    assert not rings(alarms["retention"], EstimatedMaxTimeLag=quarter)
    assert rings(alarms["retention"], EstimatedMaxTimeLag=quarter + 1)
    assert not rings(alarms["lag"], EstimatedMaxTimeLag=900)
    assert rings(alarms["lag"], EstimatedMaxTimeLag=901)
    assert not rings(alarms["unread"], BytesInPerSec=5.0, RowsAccepted=1)
    assert not rings(alarms["unread"], BytesInPerSec=0.0, RowsAccepted=0)
    assert rings(alarms["unread"], BytesInPerSec=5.0, RowsAccepted=0)


def test_a_group_that_never_joined_rings_though_it_has_no_metric(enabled):
    alarms = by_name(enabled)
    assert rings(alarms["retention"])
    assert rings(alarms["unread"], BytesInPerSec=5.0)
    assert rings(alarms["silence"])


def test_lag_is_that_of_the_group_and_the_topic(enabled):
    alarm = by_name(enabled)["retention"]
    assert (alarm["Namespace"], alarm["Statistic"]) == ("AWS/Kafka", "Maximum")
    assert {each["Name"]: each["Value"] for each in alarm["Dimensions"]} == {
        "Cluster Name": "lm-datapublisher-demo",
        "Consumer Group": "lmstream",
        "Topic": "lm.metrics.otlp",
    }


def test_lag_of_an_existing_cluster_has_its_name_and_its_brokers_are_its_owners(other):
    alarms = by_name(other)
    assert {"Name": "Cluster Name", "Value": "theirs"} in alarms["retention"]["Dimensions"]
    assert not BROKERS & set(alarms)
    assert "pipe" not in alarms


def test_brokers_of_an_existing_cluster_are_watched_when_the_settings_say_how_many(other, tmp_path):
    cluster = {"arn": other.deployment.cluster.arn, "brokers_watched": 9}
    made = synthesized(changed(other.deployment, cluster=cluster), tmp_path)
    alarms = by_name(made)
    assert set(alarms) >= BROKERS
    assert rings(alarms["unread"], BytesInPerSec=5.0, RowsAccepted=0)
    for name in ("disk", "under-replicated", "unread"):
        stats = [one["MetricStat"]["Metric"] for one in alarms[name]["Metrics"] if "MetricStat" in one]
        dimensions = [{each["Name"]: each["Value"] for each in one["Dimensions"]} for one in stats]
        ids = [each["Broker ID"] for each in dimensions if "Broker ID" in each]
        assert ids == [str(n) for n in range(1, 10)]
        assert {each["Cluster Name"] for each in dimensions if "Broker ID" in each} == {"theirs"}
        assert len(stats) <= 10, "an alarm of CloudWatch reads no more"
    assert len(alarms) == alarms_of(made.deployment), "the bill counts them"
    assert "KafkaDataLogsDiskUsed" in json.dumps(made.one("AWS::CloudWatch::Dashboard"))
    assert "KafkaDataLogsDiskUsed" not in json.dumps(other.one("AWS::CloudWatch::Dashboard"))


def test_each_broker_is_watched(default):
    alarms = by_name(default)
    for name in ("disk", "under-replicated"):
        stats = [one["MetricStat"] for one in alarms[name]["Metrics"] if "MetricStat" in one]
        ids = [each["Value"] for one in stats for each in one["Metric"]["Dimensions"] if each["Name"] == "Broker ID"]
        assert ids == ["1", "2", "3"]
    assert rings(alarms["disk"], KafkaDataLogsDiskUsed=86)
    assert not rings(alarms["disk"], KafkaDataLogsDiskUsed=85)
    assert rings(alarms["offline-partitions"], OfflinePartitionsCount=1)


def test_a_pipe_that_fails_is_told(default):
    alarms = by_name(default)
    (pipe,) = alarms["pipe"]["Dimensions"]
    assert pipe == {"Name": "PipeName", "Value": default.one("AWS::Pipes::Pipe")["Name"]}
    assert alarms["pipe"]["Namespace"] == "AWS/EventBridge/Pipes"
    assert rings(alarms["pipe"], ExecutionFailed=1)


def test_each_rule_has_an_alarm_that_does_not_wait_for_the_other_ones_data(default, other):
    for made, names in ((default, ["error-prefix"]), (other, ["error-prefix", "given-up"])):
        alarms = by_name(made)
        assert [name for name in alarms if name.startswith("rules")] == [f"rules-{name}" for name in names]
        for name in names:
            alarm = alarms[f"rules-{name}"]
            assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Events", "FailedInvocations")
            assert alarm["Dimensions"] == [{"Name": "RuleName", "Value": f"lmstream-{name}"}]


def test_a_key_that_firehose_cannot_use_rings_whatever_the_cause(default, other):
    for made in (default, other):
        alarms = {name: one for name, one in by_name(made).items() if name.startswith("key-")}
        causes = {"KMSKeyAccessDenied", "KMSKeyDisabled", "KMSKeyInvalidState", "KMSKeyNotFound"}
        assert {one["MetricName"] for one in alarms.values()} == causes
        for one in alarms.values():
            assert one["Namespace"] == "AWS/Firehose"
            assert one["Dimensions"] == [{"Name": "DeliveryStreamName", "Value": "lmstream-rows"}]
            assert rings(one, **{one["MetricName"]: 1})
            assert not rings(one)


def test_a_broker_without_data_silences_no_other(default):
    for name in ("disk", "under-replicated"):
        (expression,) = [one["Expression"] for one in by_name(default)[name]["Metrics"] if "Expression" in one]
        assert expression == "MAX([FILL(m0, 0), FILL(m1, 0), FILL(m2, 0)])"


def test_records_that_give_no_row_ring_and_silence_does_not(enabled, default):
    for made in (enabled, default):
        alarm = by_name(made)["no-rows"]
        assert rings(alarm, RecordsWithoutRow=7, RowsDecoded=0)
        assert not rings(alarm, RecordsWithoutRow=7, RowsDecoded=1)
        assert not rings(alarm)
        assert not rings(alarm, RowsDecoded=0)  # tombstones alone, or nothing at all
        assert {one["MetricStat"]["Period"] for one in alarm["Metrics"] if "MetricStat" in one} == {900}
