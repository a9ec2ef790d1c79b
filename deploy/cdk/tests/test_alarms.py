"""Alarms on the source, in its three states: not enabled, reading, and enabled while nobody reads."""

import re

import pytest

from conftest import changed, synthesized

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
    assert not {"disk", "offline-partitions", "under-replicated", "unread", "pipe"} & set(alarms)


def test_each_broker_is_watched(default):
    alarms = by_name(default)
    for name in ("disk", "under-replicated"):
        stats = [one["MetricStat"] for one in alarms[name]["Metrics"] if "MetricStat" in one]
        ids = [each["Value"] for one in stats for each in one["Metric"]["Dimensions"] if each["Name"] == "Broker ID"]
        assert ids == ["1", "2", "3"]
    assert rings(alarms["disk"], KafkaDataLogsDiskUsed=86)
    assert not rings(alarms["disk"], KafkaDataLogsDiskUsed=85)
    assert rings(alarms["offline-partitions"], OfflinePartitionsCount=1)


def test_a_pipe_that_fails_and_rules_that_reach_nobody_are_told(default):
    alarms = by_name(default)
    (pipe,) = alarms["pipe"]["Dimensions"]
    assert pipe == {"Name": "PipeName", "Value": default.one("AWS::Pipes::Pipe")["Name"]}
    assert alarms["pipe"]["Namespace"] == "AWS/EventBridge/Pipes"
    assert rings(alarms["pipe"], ExecutionFailed=1)
    assert (alarms["rules"]["Namespace"], alarms["rules"]["MetricName"]) == ("AWS/Events", "FailedInvocations")
    assert alarms["rules"]["Dimensions"] == [{"Name": "RuleName", "Value": "lmstream-error-prefix"}]


def test_what_two_rules_missed_is_one_alarm(other):
    stats = [one["MetricStat"]["Metric"] for one in by_name(other)["rules"]["Metrics"] if "MetricStat" in one]
    assert {one["Dimensions"][0]["Value"] for one in stats} == {"lmstream-error-prefix", "lmstream-given-up"}


def test_records_that_give_no_row_ring_and_silence_does_not(enabled, default):
    for made in (enabled, default):
        alarm = by_name(made)["no-rows"]
        assert rings(alarm, RecordsWithoutRow=7, RowsDecoded=0)
        assert not rings(alarm, RecordsWithoutRow=7, RowsDecoded=1)
        assert not rings(alarm)
        assert not rings(alarm, RowsDecoded=0)  # tombstones alone, or nothing at all
        assert {one["MetricStat"]["Period"] for one in alarm["Metrics"] if "MetricStat" in one} == {900}
