"""A deployment in AWS as settings: checked, and priced."""

from lmstream.deployment.settings import Deployment, load

__all__ = ["Deployment", "load"]
