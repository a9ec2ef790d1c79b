"""The VPC of a new cluster: private subnets, and a way for what reads the topic to the APIs that it calls."""

from aws_cdk import Acknowledgment, Validations
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from lmstream.deployment import Deployment
from lmstream_cdk.base import LmstreamStack
from lmstream_cdk.data import DataStack

KAFKA_PORT = 9094
IAM_PORT = 9098
"""docs.aws.amazon.com/msk/latest/developerguide/port-info.html: TLS and mTLS, and IAM."""
HTTPS = 443
ENDPOINTS = {
    "lambda": ("Lambda", ec2.InterfaceVpcEndpointAwsService.LAMBDA_),
    "sts": ("Sts", ec2.InterfaceVpcEndpointAwsService.STS),
    "secretsmanager": ("Secrets", ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER),
    "pipes-data": ("Pipes", ec2.InterfaceVpcEndpointAwsService.PIPES_DATA),
    "ecr.api": ("Ecr", ec2.InterfaceVpcEndpointAwsService.ECR),
    "ecr.dkr": ("EcrImages", ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER),
    "logs": ("CloudWatchLogs", ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS),
}
LAYERS = "arn:{partition}:s3:::prod-{region}-starport-layer-bucket/*"
"""Where ECR keeps layers of images, in buckets of AWS's own: docs.aws.amazon.com/AmazonECR/latest/userguide/
vpc-endpoints.html, minimum Amazon S3 bucket permissions for Amazon ECR."""


class NetworkStack(LmstreamStack):
    """Needed for a new cluster only."""

    def __init__(self, scope: Construct, deployment: Deployment, data: DataStack) -> None:
        super().__init__(scope, "network", deployment, "VPC of the brokers")
        settings = deployment.network
        if settings.vpc_id:
            self.vpc: ec2.IVpc = ec2.Vpc.from_vpc_attributes(
                self, "Vpc", vpc_id=settings.vpc_id, availability_zones=self.availability_zones
            )
            self.subnet_ids = list(settings.subnet_ids)
        else:
            self._own(data)
        self.brokers = ec2.SecurityGroup(
            self, "Brokers", vpc=self.vpc, description="Brokers, and the pollers beside them", allow_all_outbound=False
        )
        # Pipes and mappings poll from interfaces in the cluster's own security groups; tasks have a group of their own.
        self.readers, who = self.brokers, "pollers"
        if deployment.path == "direct":
            self.readers, who = tasks_group(self, self.vpc), "tasks"
        self.brokers.add_ingress_rule(self.readers, ec2.Port.tcp(KAFKA_PORT), f"{who} to brokers, mTLS")
        self.readers.add_egress_rule(self.brokers, ec2.Port.tcp(KAFKA_PORT), f"{who} to brokers, mTLS")
        for cidr in deployment.cluster.collector_cidrs:
            self.brokers.add_ingress_rule(ec2.Peer.ipv4(cidr), ec2.Port.tcp(KAFKA_PORT), "collectors, mTLS")
        if settings.egress == "nat" or settings.vpc_id:
            way = "VPC's way out" if settings.vpc_id else "NAT gateway"
            self.readers.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS), f"AWS APIs through the {way}")
        if deployment.endpoints:
            self._endpoints(deployment.endpoints, who)
        if deployment.path == "direct" and not settings.vpc_id:
            self._bucket_of_rows()
        elif (
            deployment.path == "firehose"
            and deployment.keeps_failures
            and settings.egress != "nat"
            and not settings.vpc_id
        ):
            self._bucket_of_failures()

    def _own(self, data: DataStack) -> None:
        settings = self.deployment.network
        nat = settings.egress == "nat"
        private = ec2.SubnetType.PRIVATE_WITH_EGRESS if nat else ec2.SubnetType.PRIVATE_ISOLATED
        subnets = [ec2.SubnetConfiguration(name="brokers", subnet_type=private, cidr_mask=22)]
        if nat:
            subnets.append(ec2.SubnetConfiguration(name="egress", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=26))
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(settings.cidr),
            max_azs=settings.zones,
            nat_gateways=1 if nat else 0,
            subnet_configuration=subnets,
            create_internet_gateway=nat,
        )
        if settings.zone_names:
            named = "The settings name the zones, for accounts whose first ones are others"
            Validations.of(self.vpc).acknowledge(Acknowledgment(id="CloudFormation-Validate::W3010", reason=named))
        self.subnets = self.vpc.select_subnets(subnet_type=private).subnets
        self.subnet_ids = [subnet.subnet_id for subnet in self.subnets]
        self.vpc.add_flow_log(
            "Flow",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(data.flow_logs),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )

    def _bucket_of_failures(self) -> None:
        """A way to S3 for what a mapping gave up. AWS: "You must deploy a VPC endpoint for your on-failure destination
        service inside your Kafka cluster VPC" (docs.aws.amazon.com/lambda/latest/dg/kafka-on-failure.html), also where
        pollers need no other. One of this kind costs nothing."""
        self._gateway()
        # S3 has no addresses that a template could name; these subnets have no route to any other.
        self.brokers.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS), "what a mapping gave up to S3")

    def _bucket_of_rows(self) -> None:
        """A free way to S3, also beside a NAT gateway, which charges each GB; and to the image's layers."""
        layers = LAYERS.format(partition=self.partition, region=self.region)
        self._gateway().add_to_policy(
            iam.PolicyStatement(principals=[iam.AnyPrincipal()], actions=["s3:GetObject"], resources=[layers])
        )
        if self.deployment.network.egress != "nat":
            self.readers.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS), "objects and image layers in S3")

    def _gateway(self) -> ec2.GatewayVpcEndpoint:
        """The endpoint of S3 for buckets of this account."""
        endpoint = self.vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        endpoint.add_to_policy(
            iam.PolicyStatement(
                principals=[iam.AnyPrincipal()],
                actions=["s3:*"],
                resources=["*"],
                conditions={"StringEquals": {"aws:ResourceAccount": self.account}},
            )
        )
        return endpoint

    def _endpoints(self, services: tuple[str, ...], who: str) -> None:
        group = ec2.SecurityGroup(
            self, "Endpoints", vpc=self.vpc, description="Interface endpoints", allow_all_outbound=False
        )
        group.add_ingress_rule(self.readers, ec2.Port.tcp(HTTPS), f"{who} to AWS APIs")
        self.readers.add_egress_rule(group, ec2.Port.tcp(HTTPS), f"{who} to AWS APIs")
        for name, service in (ENDPOINTS[each] for each in services):
            self.vpc.add_interface_endpoint(
                name,
                service=service,
                subnets=ec2.SubnetSelection(subnets=self.subnets),
                security_groups=[group],
                open=False,
                private_dns_enabled=True,
            )


def tasks_group(scope: Construct, vpc: ec2.IVpc) -> ec2.SecurityGroup:
    """The security group of tasks: nothing comes in, and what may go out is added by who makes it."""
    return ec2.SecurityGroup(scope, "Tasks", vpc=vpc, description="Tasks of lmstream", allow_all_outbound=False)
