"""MSK with mTLS only, its private CA, and the secret that holds the client's certificate."""

import base64
import hashlib

from aws_cdk import CfnOutput, Token
from aws_cdk import aws_acmpca as acmpca
from aws_cdk import aws_msk as msk
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from lmstream.deployment import Deployment
from lmstream_cdk.base import KEEP, LmstreamStack, acknowledge, pin
from lmstream_cdk.data import DataStack
from lmstream_cdk.network import NetworkStack

_PROPERTIES = """\
auto.create.topics.enable=false
default.replication.factor={copies}
min.insync.replicas={least}
num.partitions={partitions}
log.retention.hours={hours}
unclean.leader.election.enable=false
"""
_MESSAGE_BYTES = 1_048_588  # Kafka's own default, message.max.bytes: not written, so that it is no change
_CA_YEARS = 10


class StreamingStack(LmstreamStack):
    """The cluster, unless one exists, and the secret, unless one exists."""

    def __init__(self, scope: Construct, deployment: Deployment, data: DataStack, network: NetworkStack | None) -> None:
        super().__init__(scope, "streaming", deployment, "Kafka cluster and client certificate")
        self.secret_arn = deployment.certificate_secret or self._secret(data)
        self.cluster_arn = deployment.cluster.arn
        if network is not None:
            ca_arn = deployment.cluster.ca_arn or self._authority()
            self.cluster_arn = self._cluster(data, network, ca_arn)
            CfnOutput(self, "CertificateAuthority", value=ca_arn, description="Signs clients' certificates")
        CfnOutput(self, "ClusterArn", value=self.cluster_arn)
        CfnOutput(self, "CertificateSecret", value=self.secret_arn, description="Fill it: docs/deploy.md")

    def _secret(self, data: DataStack) -> str:
        secret = pin(
            secretsmanager.CfnSecret(
                self,
                "ClientCertificate",
                name=f"{self.deployment.name}/kafka-client",
                description='{"certificate": PEM chain, "privateKey": PKCS#8 PEM}; put by hand, never by this stack',
                kms_key_id=data.key.key_arn,
            ),
            "ClientCertificate",
        )
        secret.apply_removal_policy(KEEP)
        acknowledge(secret, "SMG4", reason="A certificate is renewed at its CA and put by the runbook, not rotated")
        return secret.ref

    def _authority(self) -> str:
        authority = pin(
            acmpca.CfnCertificateAuthority(
                self,
                "Authority",
                type="ROOT",
                key_algorithm="RSA_2048",
                signing_algorithm="SHA256WITHRSA",
                subject=acmpca.CfnCertificateAuthority.SubjectProperty(common_name=f"{self.deployment.name} clients"),
            ),
            "CertificateAuthority",
        )
        root = acmpca.CfnCertificate(
            self,
            "RootCertificate",
            certificate_authority_arn=authority.attr_arn,
            certificate_signing_request=authority.attr_certificate_signing_request,
            signing_algorithm="SHA256WITHRSA",
            template_arn=f"arn:{self.partition}:acm-pca:::template/RootCACertificate/V1",
            validity=acmpca.CfnCertificate.ValidityProperty(type="YEARS", value=_CA_YEARS),
        )
        active = acmpca.CfnCertificateAuthorityActivation(
            self,
            "AuthorityActivation",
            certificate_authority_arn=authority.attr_arn,
            certificate=root.attr_certificate,
            status="ACTIVE",
        )
        # Deleting the activation disables the authority that a kept cluster still trusts.
        for each in (authority, root, active):
            each.apply_removal_policy(KEEP)
        self._active = active
        return authority.attr_arn

    def _cluster(self, data: DataStack, network: NetworkStack, ca_arn: str) -> str:
        settings = self.deployment.cluster
        copies = min(3, settings.brokers)
        configuration = msk.CfnConfiguration(
            self,
            "Configuration",
            # No list of versions: it cannot change, and would hold the cluster at the version of its first day.
            name=f"{settings.name}-properties",
            server_properties=self._properties(copies),
        )
        cluster = pin(
            msk.CfnCluster(
                self,
                "Cluster",
                cluster_name=settings.name,
                kafka_version=settings.kafka_version,
                number_of_broker_nodes=settings.brokers,
                enhanced_monitoring=self.deployment.operations.broker_metrics,
                broker_node_group_info=msk.CfnCluster.BrokerNodeGroupInfoProperty(
                    client_subnets=network.subnet_ids,
                    instance_type=settings.instance,
                    security_groups=[network.brokers.security_group_id],
                    storage_info=msk.CfnCluster.StorageInfoProperty(
                        ebs_storage_info=msk.CfnCluster.EBSStorageInfoProperty(volume_size=settings.storage_gib)
                    ),
                ),
                client_authentication=msk.CfnCluster.ClientAuthenticationProperty(
                    tls=msk.CfnCluster.TlsProperty(enabled=True, certificate_authority_arn_list=[ca_arn]),
                    unauthenticated=msk.CfnCluster.UnauthenticatedProperty(enabled=False),
                ),
                encryption_info=msk.CfnCluster.EncryptionInfoProperty(
                    encryption_at_rest=msk.CfnCluster.EncryptionAtRestProperty(data_volume_kms_key_id=data.key.key_arn),
                    encryption_in_transit=msk.CfnCluster.EncryptionInTransitProperty(
                        client_broker="TLS", in_cluster=True
                    ),
                ),
                configuration_info=msk.CfnCluster.ConfigurationInfoProperty(
                    arn=configuration.attr_arn,
                    revision=Token.as_number(configuration.get_att("LatestRevision.Revision")),
                ),
                logging_info=msk.CfnCluster.LoggingInfoProperty(
                    broker_logs=msk.CfnCluster.BrokerLogsProperty(
                        cloud_watch_logs=msk.CfnCluster.CloudWatchLogsProperty(
                            enabled=True, log_group=data.broker_logs.log_group_name
                        )
                    )
                ),
            ),
            "KafkaCluster",
        )
        cluster.apply_removal_policy(KEEP)
        if not settings.ca_arn:
            cluster.add_resource_dependency(self._active)
        if settings.create_topic:
            self._topic(cluster.attr_arn, copies)
        return cluster.attr_arn

    def _properties(self, copies: int) -> str:
        settings = self.deployment.cluster
        text = _PROPERTIES.format(
            copies=copies, least=copies - 1, partitions=self.deployment.partitions, hours=settings.retention_hours
        )
        if settings.message_bytes != _MESSAGE_BYTES:
            text += f"message.max.bytes={settings.message_bytes}\nreplica.fetch.max.bytes={settings.message_bytes}\n"
        if settings.acls:
            text += "allow.everyone.if.no.acl.found=false\n"
        return text

    def _topic(self, cluster_arn: str, copies: int) -> None:
        """The topic, through MSK's API: no Kafka client, and no way into the VPC, is needed for it.

        docs.aws.amazon.com/msk/latest/developerguide/msk-topic-operations-information.html (read 2026-11-28): MSK
        Provisioned, Kafka 3.6, ACTIVE, and kafka-cluster:Connect and :CreateTopic of who deploys. That the cluster need
        not authenticate clients by IAM for it says AWS's github.com/aws/agent-toolkit-for-aws, managing-amazon-msk/
        references/manage-topics.md (read 2026-11-28). Nobody here has seen it on a cluster with mTLS alone.
        """
        deployment, settings = self.deployment, self.deployment.cluster
        configs = f"retention.ms={settings.retention_hours * 3_600_000}\nmax.message.bytes={settings.message_bytes}\n"
        topic = msk.CfnTopic(
            self,
            "Topic",
            cluster_arn=cluster_arn,
            topic_name=deployment.topic,
            partition_count=deployment.partitions,
            replication_factor=copies,
            configs=base64.b64encode(configs.encode()).decode(),
        )
        # Another name is another topic beside the kept one, not a replacement of it.
        pin(topic, f"Topic{hashlib.sha256(deployment.topic.encode()).hexdigest()[:8]}")
        topic.apply_removal_policy(KEEP)
