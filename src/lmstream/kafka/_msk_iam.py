"""Tokens of MSK IAM: a signed request to connect, sent as an OAUTHBEARER token instead of over HTTP.

docs.aws.amazon.com/msk/latest/developerguide/iam-access-control.html: service `kafka-cluster`, action
`kafka-cluster:Connect`; the brokers take a token for 900 s (X-Amz-Expires) from when it was signed.
"""

import base64
import re
from typing import Any, Final

from lmstream import __version__
from lmstream.errors import ConfigError

SECONDS: Final = 900
"""Life of a token."""
_URL: Final = "https://kafka.{region}.amazonaws.com{suffix}/?Action=kafka-cluster%3AConnect"
_BROKER: Final = re.compile(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$")
"""b-1.NAME.ID.c2.kafka.REGION.amazonaws.com, boot-ID.c1.kafka-serverless.REGION.amazonaws.com."""


def region_of(configured: str, hosts: list[str]) -> str:
    """The cluster's region: that of the setting, else that in the names of its brokers. Raises ConfigError."""
    found = configured or next((match[1] for host in hosts if (match := _BROKER.search(host))), "")
    if not found:
        what = "aws_region is not set, and the brokers' names hold no region (as b-1.NAME.ID.c2.kafka.REGION...)"
        raise ConfigError("config.invalid", what)
    return found


def signed(credentials: Any, region: str) -> str:
    """A token for these credentials of botocore, valid for SECONDS from now on."""
    from botocore.auth import SigV4QueryAuth  # noqa: PLC0415 - only who uses MSK IAM needs it
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - as above

    suffix = ".cn" if region.startswith("cn-") else ""
    request = AWSRequest(method="GET", url=_URL.format(region=region, suffix=suffix))
    SigV4QueryAuth(credentials, "kafka-cluster", region, expires=SECONDS).add_auth(request)
    # After the signature: brokers note it, and do not check it.
    url = f"{request.url}&User-Agent=lmstream%2F{__version__}"
    return base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
