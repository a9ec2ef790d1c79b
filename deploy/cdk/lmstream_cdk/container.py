"""The direct path: a service of Fargate that reads the topic and writes objects, its roles, network and scaling."""

import re

from aws_cdk import Acknowledgment, CfnOutput, Duration, Validations
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from lmstream import __version__
from lmstream.deployment import Deployment
from lmstream.deployment.buckets import rows_prefix
from lmstream_cdk.base import KEYS, LmstreamStack, acknowledge, pin
from lmstream_cdk.container_variables import variables
from lmstream_cdk.data import LETTERS, DataStack
from lmstream_cdk.image import from_repository
from lmstream_cdk.lake import PROTOCOL
from lmstream_cdk.network import HTTPS, IAM_PORT, KAFKA_PORT, NetworkStack, tasks_group
from lmstream_cdk.source_alarms import behind_seconds, lag

USER = "10001:10001"
STOP_SECONDS = 40
"""Above lmstream's 29 (runtime.grace and four seconds to close); Fargate allows 120."""
COOLDOWN = Duration.minutes(10)
"""Each change of the number of tasks is a rebalance, and windows that are open begin again."""
INSIGHTS = "Container Insights is paid by metric; alarms read ECS's own metrics, MSK's, and those of the log"
PLAIN = "Settings, and no secret: the certificate is read from Secrets Manager by the process itself"
NO_ROUTES = "Subnets of the settings: their routes are their owner's, and nothing here asks for them"
ANY_REGISTRY = "ECR gives tokens for a registry, not for a repository: ecr:GetAuthorizationToken has no resource"
_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([a-z0-9._/-]+)(?:[:@].*)?")
_PULL = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
_GROUP = ["kafka-cluster:AlterGroup", "kafka-cluster:DescribeGroup"]
_TOPIC = ["kafka-cluster:DescribeTopic", "kafka-cluster:DescribeTopicDynamicConfiguration", "kafka-cluster:ReadData"]
_ASKED = ["s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration", "s3:ListBucket"]
"""What a start asks of the bucket. Without s3:ListBucket S3 answers 403 for an object that is not there:
docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html."""


class ContainerStack(LmstreamStack):
    """Deployable beside any cluster with mTLS or IAM authentication."""

    def __init__(
        self,
        scope: Construct,
        deployment: Deployment,
        data: DataStack,
        network: NetworkStack | None,
        cluster_arn: str,
        secret_arn: str,
    ) -> None:
        """Without a network stack the tasks run in the VPC of the settings."""
        super().__init__(scope, "container", deployment, "service that writes objects, and its scaling")
        self.data, self.network, self.cluster_arn, self.secret_arn = data, network, cluster_arn, secret_arn
        self.vpc, self.subnets, self.group = self._place()
        self.policies: list[iam.Policy] = []
        """Without which a task would fail at its start."""
        self.cluster = ecs.Cluster(self, "Cluster", cluster_name=deployment.name, vpc=self.vpc)
        acknowledge(self.cluster, "ECS4", reason=INSIGHTS)
        self.service = self._service(self._task())
        if self.scales:
            self._scale()
        if network is None:
            group = self.group.security_group_id
            CfnOutput(self, "TaskSecurityGroup", value=group, description="The brokers' security group has to admit it")

    @property
    def most(self) -> int:
        """Tasks at most."""
        return self.deployment.container.max_tasks or self.deployment.partitions

    @property
    def scales(self) -> bool:
        """Whether the number of tasks follows the lag."""
        return self.deployment.container.enabled and self.most > self.deployment.container.tasks

    def _place(self) -> tuple[ec2.IVpc, list[ec2.ISubnet], ec2.ISecurityGroup]:
        settings, container = self.deployment.network, self.deployment.container
        if self.network is not None and not settings.vpc_id:
            return self.network.vpc, self.network.subnets, self.network.readers
        vpc = ec2.Vpc.from_vpc_attributes(
            self, "Vpc", vpc_id=settings.vpc_id, availability_zones=self.availability_zones
        )
        subnets = [ec2.Subnet.from_subnet_id(self, f"Subnet{n}", each) for n, each in enumerate(settings.subnet_ids)]
        for each in subnets:
            told = Acknowledgment(id="Annotation::@aws-cdk/aws-ec2:noSubnetRouteTableId", reason=NO_ROUTES)
            Validations.of(each).acknowledge(told)
        if self.network is not None:
            return vpc, subnets, self.network.readers
        if container.security_group:
            return vpc, subnets, ec2.SecurityGroup.from_security_group_id(self, "Tasks", container.security_group)
        group = tasks_group(self, vpc)
        port = IAM_PORT if container.kafka == "iam" else KAFKA_PORT
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(port), "brokers, wherever they are")
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS), "AWS APIs through the VPC's way out")
        return vpc, subnets, group

    def _task(self) -> ecs.FargateTaskDefinition:
        deployment, container, data = self.deployment, self.deployment.container, self.data
        arm = container.architecture == "arm64"
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            family=deployment.name,
            cpu=container.cpu,
            memory_limit_mib=container.memory_mb,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.ARM64 if arm else ecs.CpuArchitecture.X86_64,
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
            task_role=self._task_role(),
            execution_role=self._execution_role(),
            volumes=[ecs.Volume(name="tmp")],
        )
        acknowledge(task, "ECS2", reason=PLAIN)
        made = task.add_container(
            "lmstream",
            image=self._image(),
            user=USER,
            readonly_root_filesystem=True,
            stop_timeout=Duration.seconds(STOP_SECONDS),
            environment=variables(deployment, data.landing.bucket_name, data.dead_letters.bucket_name, self.secret_arn),
            linux_parameters=self._linux(),
            logging=ecs.LogDrivers.aws_logs(stream_prefix="lmstream", log_group=data.container_logs),
            health_check=ecs.HealthCheck(
                command=["CMD", "lmstream", "health", "--address", "127.0.0.1:9464"],
                interval=Duration.seconds(10),
                timeout=Duration.seconds(5),
                retries=3,
                start_period=Duration.seconds(60),
            ),
        )
        made.add_mount_points(ecs.MountPoint(container_path="/tmp", source_volume="tmp", read_only=False))  # noqa: S108 - in the container
        return task

    def _linux(self) -> ecs.LinuxParameters:
        """A process that reaps the others' ends, and no capability of the kernel."""
        found = ecs.LinuxParameters(self, "Linux", init_process_enabled=True)
        found.drop_capabilities(ecs.Capability.ALL)
        return found

    def _image(self) -> ecs.ContainerImage:
        image = self.deployment.container.image
        if image == "build":
            return from_repository(self, self.deployment.container.architecture)
        return ecs.ContainerImage.from_registry(image or f"{self.data.images.repository_uri}:{__version__}")

    def _execution_role(self) -> iam.Role:
        """Who ECS is while it starts a task: it pulls the image and opens the log."""
        role = _role(self, "ExecutionRole", "ECS pulls the image and writes the log of lmstream's tasks")
        repository = self._repository()
        if repository:
            token = iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"])
            pull = iam.PolicyStatement(actions=_PULL, resources=[repository])
            policy = iam.Policy(self, "ExecutionPolicy", roles=[role], statements=[token, pull])
            self.policies.append(policy)
            acknowledge(policy, "IAM5[Resource::*]", reason=ANY_REGISTRY)
        elif self.deployment.container.image == "build":
            acknowledge(role, "IAM5[Resource::*]", reason=ANY_REGISTRY)
        return role

    def _repository(self) -> str:
        """ARN of the image's repository in ECR; empty where it lies elsewhere, or is built."""
        image = self.deployment.container.image
        if not image:
            return self.data.images.repository_arn
        found = _ECR.fullmatch(image)
        return f"arn:{self.partition}:ecr:{found[2]}:{found[1]}:repository/{found[3]}" if found else ""

    def _task_role(self) -> iam.Role:
        """Who lmstream is: it reads the topic, makes objects of rows, claims and letters, and never deletes."""
        deployment, data = self.deployment, self.data
        role = _role(self, "TaskRole", "lmstream reads the topic and writes rows, claims and dead letters")
        # By name, as the function's letters: a policy is then readable text.
        bucket = f"arn:{self.partition}:s3:::{data.bucket_name('metrics')}"
        rows = rows_prefix(deployment.engine.path)
        letters = f"arn:{self.partition}:s3:::{data.bucket_name('dead-letters')}/{LETTERS}*"
        objects = [f"{bucket}/{rows}*", f"{bucket}/{PROTOCOL}*"]
        policy = iam.Policy(
            self,
            "TaskPolicy",
            roles=[role],
            statements=[
                iam.PolicyStatement(actions=["s3:GetObject", "s3:PutObject"], resources=[*objects, letters]),
                iam.PolicyStatement(actions=_ASKED, resources=[bucket]),
                iam.PolicyStatement(actions=KEYS, resources=[data.key.key_arn]),
                *(self._by_role() if deployment.container.kafka == "iam" else self._certificate()),
            ],
        )
        self.policies.append(policy)
        for each in objects:
            what = "Keys are the data's: organization, metric and hour; and the numbers of claims"
            acknowledge(policy, f"IAM5[Resource::{each}]", reason=what)
        acknowledge(
            policy, f"IAM5[Resource::{letters}]", reason="A letter's key is its record's place: under one prefix"
        )
        return role

    def _certificate(self) -> list[iam.PolicyStatement]:
        key = self.deployment.secret_key or (self.data.key.key_arn if not self.deployment.certificate_secret else "")
        read = iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[self.secret_arn])
        return [read, *([iam.PolicyStatement(actions=["kms:Decrypt"], resources=[key])] if key else [])]

    def _by_role(self) -> list[iam.PolicyStatement]:
        """docs.aws.amazon.com/msk/latest/developerguide/kafka-actions.html: what a consumer of a group needs."""

        def arn(kind: str, name: str) -> str:
            return f"{self.cluster_arn.replace(':cluster/', f':{kind}/')}/{name}"

        return [
            iam.PolicyStatement(actions=["kafka-cluster:Connect"], resources=[self.cluster_arn]),
            iam.PolicyStatement(actions=_TOPIC, resources=[arn("topic", self.deployment.topic)]),
            iam.PolicyStatement(actions=_GROUP, resources=[arn("group", self.deployment.group)]),
        ]

    def _service(self, task: ecs.FargateTaskDefinition) -> ecs.FargateService:
        container = self.deployment.container
        service = ecs.FargateService(
            self,
            "Service",
            service_name=self.deployment.name,
            cluster=self.cluster,
            task_definition=task,
            # A deploy starts from the least; lag adds tasks again.
            desired_count=container.tasks if container.enabled else 0,
            # New tasks join before old ones leave: claims make it safe, and an image that does not start stops nothing.
            min_healthy_percent=100,
            max_healthy_percent=200,
            circuit_breaker=ecs.DeploymentCircuitBreaker(rollback=True),
            assign_public_ip=False,
            vpc_subnets=ec2.SubnetSelection(subnets=self.subnets),
            security_groups=[self.group],
            platform_version=ecs.FargatePlatformVersion.VERSION1_4,
            enable_execute_command=False,
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )
        service.node.add_dependency(*self.policies)
        return pin(service, "Service")

    def _scale(self) -> None:
        """More tasks while the group is behind, fewer once it has caught up. MSK tells the lag of a group that is
        stable: docs.aws.amazon.com/msk/latest/developerguide/consumer-lag.html; while it is not, nothing changes."""
        behind = behind_seconds(self.deployment)
        target = self.service.auto_scale_task_count(
            min_capacity=self.deployment.container.tasks, max_capacity=self.most
        )
        target.scale_on_metric(
            "Lag",
            metric=lag(self.deployment),
            scaling_steps=[
                scaling.ScalingInterval(upper=behind / 2, change=-1),
                scaling.ScalingInterval(lower=behind, change=1),
                scaling.ScalingInterval(lower=4 * behind, change=2),
            ],
            adjustment_type=scaling.AdjustmentType.CHANGE_IN_CAPACITY,
            cooldown=COOLDOWN,
            evaluation_periods=2,
        )


def _role(stack: LmstreamStack, logical_id: str, description: str) -> iam.Role:
    """A role that tasks of this account take."""
    source = {
        "StringEquals": {"aws:SourceAccount": stack.account},
        "ArnLike": {"aws:SourceArn": f"arn:{stack.partition}:ecs:{stack.region}:{stack.account}:*"},
    }
    principal = iam.ServicePrincipal("ecs-tasks.amazonaws.com", conditions=source)
    return iam.Role(stack, logical_id, assumed_by=principal, description=description)
