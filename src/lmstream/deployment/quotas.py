"""Quotas of AWS that differ by region, and what is taken where a page leaves two readings."""

from typing import Final

# docs.aws.amazon.com/firehose/latest/dev/limits.html: 5 MiB/s and 2,000 requests/s in these three, 1 MiB/s and 1,000
# requests/s in "other AWS Regions". "If a Direct PUT stream experiences throttling … Firehose automatically increases
# the throughput limit of the stream until the throttling is contained", so it is where a stream starts.
LARGE_REGIONS: Final = ("us-east-1", "us-west-2", "eu-west-1")
DIRECT_PUT_MIB: Final = {True: 5.0, False: 1.0}
# CreateDeliveryStream says 5,000 streams a region, the page of quotas 2,000, 500 or 100 for smaller ones: the least.
STREAMS: Final = {True: 5_000, False: 100}

POLLERS_OF_EPU: Final = 10
"""Event pollers of one event poller unit by default: docs.aws.amazon.com/lambda/latest/dg/kafka-scaling-modes.html."""
EPU_BYTES: Final = 20_000_000
"""Bytes a second that one event poller unit carries; the same page."""
S3_PUTS: Final = 3_500
"""PUT requests a second of one partitioned prefix, as least: docs.aws.amazon.com/AmazonS3/latest/userguide/
optimizing-performance.html."""
FARGATE_VCPU: Final = 6
"""vCPU of Fargate that a new account may use at once in a region ("Fargate On-Demand vCPU resource count"):
docs.aws.amazon.com/general/latest/gr/ecs-service.html. AWS raises it with use: an older account has more."""
TIERED_BYTES: Final = 128 * 1024
"""Smaller objects are never moved to a colder storage class by default, and Intelligent-Tiering does not watch them:
docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html."""


def direct_put_mib(region: str) -> float:
    """MiB/s that one new delivery stream takes before AWS raises it."""
    return DIRECT_PUT_MIB[region in LARGE_REGIONS]


def streams(region: str) -> int:
    """Delivery streams that an account may have in a region before AWS raises it."""
    return STREAMS[region in LARGE_REGIONS]
