"""The container's image, built from this repository: Docker builds it when it is deployed, and is not asked before."""

from pathlib import Path

from aws_cdk import IgnoreMode
from aws_cdk import aws_ecr_assets as assets
from aws_cdk import aws_ecs as ecs
from constructs import Construct

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = "adapters/container/Dockerfile"
_NEEDED = ("adapters/container", "requirements", "src", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
"""What the Dockerfile copies: nothing else goes into the build, and nothing else makes another image of it."""


def from_repository(scope: Construct, architecture: str) -> ecs.ContainerImage:
    """The image of `adapters/container/Dockerfile` for an architecture."""
    asset = assets.DockerImageAsset(
        scope,
        "Image",
        directory=str(ROOT),
        file=DOCKERFILE,
        platform=assets.Platform.LINUX_ARM64 if architecture == "arm64" else assets.Platform.LINUX_AMD64,
        ignore_mode=IgnoreMode.DOCKER,
        exclude=["*", *(f"!{each}" for each in _NEEDED), "**/__pycache__"],
    )
    return ecs.ContainerImage.from_docker_image_asset(asset)
