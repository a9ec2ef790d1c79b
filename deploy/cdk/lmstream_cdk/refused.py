"""What AWS refuses to change beyond its schemas: one function a resource type, each rule with its source."""

from collections.abc import Callable, Iterator
from typing import Any, Final

Properties = dict[str, Any]
_WITHOUT: Final = "`make destroy ARGS='NAME-operations NAME-transform'`"
Rule = Callable[[Properties, Properties], Iterator[tuple[str, str]]]
"""From the properties before and after: (setting, why not and what to do)."""

_ONE = (
    "docs of MSK and its error 'You can't update multiple attributes of the cluster in same request' (aws-cdk #16765)"
)


def _at(properties: Properties, *path: str) -> Any:
    for each in path:
        properties = properties.get(each, {}) if isinstance(properties, dict) else {}
    return properties


def cluster(before: Properties, after: Properties) -> Iterator[tuple[str, str]]:
    """AWS::MSK::Cluster."""
    was, wanted = before.get("KafkaVersion", ""), after.get("KafkaVersion", "")
    # docs.aws.amazon.com/msk/latest/developerguide/kraft-intro.html: the mode cannot be switched once it is created.
    if was.endswith(".kraft") != wanted.endswith(".kraft"):
        yield (
            "cluster.kafka_version",
            f'{was} is deployed, and MSK cannot turn ZooKeeper into KRaft or back; write kafka_version = "{was}"',
        )
    # docs.aws.amazon.com/msk/latest/developerguide/version-upgrades.html: no way back to an older version.
    elif _version(wanted) < _version(was):
        yield "cluster.kafka_version", f"{was} is deployed, and MSK has no way back to {wanted}"
    # docs.aws.amazon.com/msk/latest/developerguide/msk-update-storage.html: it can only grow.
    size = ("BrokerNodeGroupInfo", "StorageInfo", "EBSStorageInfo", "VolumeSize")
    if _at(after, *size) < _at(before, *size):
        yield (
            "cluster.storage_gib",
            f"volumes of {_at(before, *size)} GiB are deployed, and MSK cannot make them smaller",
        )
    # docs.aws.amazon.com/msk/latest/developerguide/msk-remove-broker.html: partitions must be moved off them by hand.
    if after.get("NumberOfBrokerNodes", 0) < before.get("NumberOfBrokerNodes", 0):
        yield (
            "cluster.brokers",
            f"{before['NumberOfBrokerNodes']} brokers are deployed; MSK removes those without partitions only",
        )
    # docs.aws.amazon.com/msk/latest/developerguide/msk-update-broker-type.html.
    was, wanted = (_at(each, "BrokerNodeGroupInfo", "InstanceType") for each in (before, after))
    if wanted != was and str(wanted).startswith("kafka.t3."):
        yield "cluster.instance", f"{was} is deployed, and MSK cannot make it {wanted}"


_ATTRIBUTES: Final = {
    "cluster.kafka_version": (("KafkaVersion",),),
    "cluster.brokers": (("NumberOfBrokerNodes",),),
    "cluster.instance": (("BrokerNodeGroupInfo", "InstanceType"),),
    "cluster.storage_gib": (("BrokerNodeGroupInfo", "StorageInfo"),),
    "operations.broker_metrics": (("EnhancedMonitoring",), ("LoggingInfo",)),
    "cluster.ca_arn": (("ClientAuthentication",), ("EncryptionInfo", "EncryptionInTransit")),
    "cluster (retention, partitions, ACLs: the brokers' properties)": (("ConfigurationInfo",),),
}
"""What is one request to MSK, by the settings behind it."""


def cluster_requests(before: Properties, after: Properties, *, properties_changed: bool) -> list[str]:
    """Which requests an update of AWS::MSK::Cluster makes, by the settings behind them.

    MSK takes one: "You can't update multiple attributes of the cluster in same request" (github.com/aws/aws-cdk/issues/
    16765). An upgrade of Kafka may bring another configuration along (API_UpdateClusterKafkaVersion), but whether
    CloudFormation does that in one request is not told.
    """
    made = [key for key, paths in _ATTRIBUTES.items() if any(_at(before, *p) != _at(after, *p) for p in paths)]
    last = list(_ATTRIBUTES)[-1]
    return made if not properties_changed or last in made else [*made, last]


def topic(before: Properties, after: Properties) -> Iterator[tuple[str, str]]:
    """AWS::MSK::Topic. kafka.apache.org/documentation/#basic_ops_modify_topic: partitions can only be added."""
    if after.get("PartitionCount", 0) < before.get("PartitionCount", 0):
        yield "partitions", f"the topic has {before['PartitionCount']}, and Kafka takes none away"


def mapping(before: Properties, after: Properties) -> Iterator[tuple[str, str]]:
    """AWS::Lambda::EventSourceMapping.

    docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html has neither topics nor a starting position;
    API_AmazonManagedKafkaEventSourceConfig.html: the group cannot be updated. A replacement would be a second mapping
    of the same function and cluster while the first is there.
    """
    if before.get("EventSourceArn") != after.get("EventSourceArn"):
        return
    fixed = {
        "topic": ("Topics",),
        "transform.starting_position": ("StartingPosition",),
        "transform.group": ("AmazonManagedKafkaEventSourceConfig", "ConsumerGroupId"),
    }
    for setting, path in fixed.items():
        if _at(before, *path) != _at(after, *path):
            yield (
                setting,
                f"AWS cannot change it in a mapping: first {_WITHOUT}, which hold no data, then `make deploy`",
            )


RULES: Final[dict[str, Rule]] = {
    "AWS::MSK::Cluster": cluster,
    "AWS::MSK::Topic": topic,
    "AWS::Lambda::EventSourceMapping": mapping,
}

SETTINGS: Final = {
    "AWS::S3::Bucket/BucketName": "bucket.name",
    "AWS::KinesisFirehose::DeliveryStream/DeliveryStreamName": "stream.name",
    "AWS::MSK::Cluster/ClusterName": "cluster.name",
    "AWS::MSK::Cluster/BrokerNodeGroupInfo": "network.zones, network.subnet_ids",
    "AWS::MSK::Cluster/EncryptionInfo": "key_arn",
    "AWS::EC2::Subnet/AvailabilityZone": "network.zone_names",
    "AWS::EC2::Subnet/CidrBlock": "network.cidr",
    "AWS::EC2::VPC/CidrBlock": "network.cidr",
    "AWS::MSK::Topic/ReplicationFactor": "cluster.brokers",
    "AWS::Pipes::Pipe/SourceParameters": "transform.pipe_name",
    "AWS::Pipes::Pipe/Source": "transform.pipe_name",
}
"""Which setting stands behind a property that cannot change, for the sentence."""


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
