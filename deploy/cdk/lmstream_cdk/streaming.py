"""MSK with mTLS only, its private CA, and the secret that holds the client's certificate."""

from aws_cdk import CfnOutput, RemovalPolicy, Token
from aws_cdk import aws_acmpca as acmpca
from aws_cdk import aws_msk as msk
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from lmstream.deployment import Deployment
from lmstream_cdk.base import LmstreamStack, acknowledge, pin
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
        secret.apply_removal_policy(RemovalPolicy.RETAIN)
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
        authority.apply_removal_policy(RemovalPolicy.RETAIN)
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
        self._active = active
        return authority.attr_arn

    def _cluster(self, data: DataStack, network: NetworkStack, ca_arn: str) -> str:
        settings = self.deployment.cluster
        copies = min(3, settings.brokers)
        configuration = msk.CfnConfiguration(
            self,
            "Configuration",
            name=f"{settings.name}-settings",
            kafka_versions_list=[settings.kafka_version],
            server_properties=_PROPERTIES.format(
                copies=copies, least=copies - 1, partitions=self.deployment.partitions, hours=settings.retention_hours
            ),
        )
        group = data.log_group("BrokerLogs", f"/{self.deployment.name}/brokers")
        cluster = pin(
            msk.CfnCluster(
                self,
                "Cluster",
                cluster_name=settings.name,
                kafka_version=settings.kafka_version,
                number_of_broker_nodes=settings.brokers,
                enhanced_monitoring=self.deployment.operations.broker_metrics,
                broker_node_group_info=msk.CfnCluster.BrokerNodeGroupInfoProperty(
                    client_subnets=[subnet.subnet_id for subnet in network.subnets],
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
                            enabled=True, log_group=group.log_group_name
                        )
                    )
                ),
            ),
            "KafkaCluster",
        )
        cluster.apply_removal_policy(RemovalPolicy.RETAIN)
        if not settings.ca_arn:
            cluster.add_resource_dependency(self._active)
        return cluster.attr_arn
