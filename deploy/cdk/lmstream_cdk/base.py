"""What all stacks share: availability zones without a lookup, pinned logical ids, acknowledged findings."""

from typing import Any, TypeVar, cast

from aws_cdk import (
    Acknowledgment,
    CfnElement,
    CfnResource,
    DefaultStackSynthesizer,
    Environment,
    Fn,
    RemovalPolicy,
    Stack,
    Tags,
    Token,
    Validations,
)
from aws_cdk import aws_iam as iam
from constructs import Construct, IConstruct

from lmstream.deployment import Deployment

T = TypeVar("T", bound=IConstruct)
RULES = "AwsSolutions"
KEYS = ["kms:Decrypt", "kms:GenerateDataKey"]
"""What a writer of encrypted objects may do with the key."""
KEEP = RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE
"""For what holds data, or costs much to make again. A create that is rolled back takes it along, or the next try would
meet names that are taken: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-deletionpolicy.html."""
PARTS = ("data", "network", "streaming", "transform", "container", "operations")
"""Ends of the stacks' names, in the order in which they are deployed."""
FLAGS = {
    "@aws-cdk/aws-iam:minimizePolicies": True,
    "@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy": True,
    "@aws-cdk/core:enablePartitionLiterals": True,
    "@aws-cdk/core:checkSecretUsage": True,
    "@aws-cdk/aws-lambda:recognizeLayerVersion": True,
    "aws:cdk:disable-version-reporting": True,
}
"""Feature flags of CDK; here and not in cdk.json, so that the app gives the same templates without the CLI."""


class LmstreamStack(Stack):
    """A stack of one deployment. Nothing of it looks into an account while it is synthesized."""

    def __init__(self, scope: Construct, part: str, deployment: Deployment, description: str) -> None:
        """`part` is the end of the stack's name."""
        env = Environment(account=deployment.account or None, region=deployment.region)
        super().__init__(
            scope,
            f"{deployment.name}-{part}",
            env=env,
            synthesizer=DefaultStackSynthesizer(qualifier=deployment.bootstrap_qualifier or None),
            description=f"lmstream {part}: {description}",
            # A role that may delete what it deployed is not needed to keep what must be kept.
            termination_protection=part in ("streaming", "data"),
        )
        self.deployment = deployment
        for key, value in {**deployment.tags, "lmstream": deployment.name}.items():
            Tags.of(self).add(key, value)
        if deployment.permissions_boundary:
            boundary = iam.ManagedPolicy.from_managed_policy_arn(self, "Boundary", deployment.permissions_boundary)
            iam.PermissionsBoundary.of(self).apply(boundary)

    @property
    def availability_zones(self) -> list[str]:
        """The zones that are named, or the account's first ones by index: a lookup would need credentials.

        Letters cannot be guessed: Tokyo has a, c and d for most accounts.
        """
        network = self.deployment.network
        return list(network.zone_names) or [Fn.select(index, Fn.get_azs()) for index in range(network.zones)]


def pin(construct: T, logical_id: str) -> T:
    """Fix the logical id, so that moving code never replaces a resource that holds data."""
    element = construct if isinstance(construct, CfnElement) else cast(CfnElement, construct.node.default_child)
    element.override_logical_id(logical_id)
    return construct


def cfn(construct: IConstruct) -> CfnResource:
    """The CloudFormation resource below a construct."""
    return cast(CfnResource, construct.node.default_child)


def acknowledge(construct: Any, *findings: str, reason: str) -> None:
    """Explain findings of the rule pack: each is one id, with [detail] where the pack gives one."""
    account = Stack.of(construct).account
    for finding in findings:
        # The pack writes a deployment without an account number so.
        known = finding.replace(account, "<AWS::AccountId>") if Token.is_unresolved(account) else finding
        Validations.of(construct).acknowledge(Acknowledgment(id=f"{RULES}::{RULES}-{known}", reason=reason))
