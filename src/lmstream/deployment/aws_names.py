"""Check names of things in AWS before anything is built: what is wrong deploys, and fails when records should come."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Final

Check = tuple[bool, str, str]
"""Whether it is wrong, the key, and the sentence."""

_ARN: Final = re.compile(r"arn:aws[a-z-]*:([a-z-]+):([a-z0-9-]*):\d{12}:\S+")
_CLUSTER: Final = re.compile(r"arn:aws[a-z-]*:kafka:[a-z0-9-]+:\d{12}:cluster/[A-Za-z0-9-]+/\S+")
_VPC_BITS: Final = range(16, 21)
"""A VPC has /16 at most; three zones of 1,022 addresses, and a gateway's subnets, do not fit in less than /20."""


def wrong_arns(region: str, *named: tuple[str, str, str]) -> Iterator[Check]:
    """Each (key, ARN or nothing, service): an ARN of that service in the region."""
    for key, arn, service in named:
        parts = _ARN.fullmatch(arn)
        wrong = bool(arn) and (parts is None or parts.groups() != (service, region))
        wrong = wrong or (bool(arn) and service == "kafka" and _CLUSTER.fullmatch(arn) is None)
        yield wrong, key, f"expected an ARN of {service} in {region}, saw {arn!r:.120}"


def wrong_networks(vpc: str, collectors: Iterable[str]) -> Iterator[Check]:
    """IPv4 networks in CIDR notation; that of the VPC with room for its subnets."""
    for key, cidr in (("network.cidr", vpc), *(("cluster.collector_cidrs", each) for each in collectors)):
        try:
            bits = ipaddress.IPv4Network(cidr).prefixlen
        except ValueError as error:
            yield True, key, f"expected an IPv4 network such as 10.42.0.0/16: {error}"
        else:
            what = f"/{bits}; a VPC and the subnets here take /{_VPC_BITS[0]} to /{_VPC_BITS[-1]}"
            yield key == "network.cidr" and bits not in _VPC_BITS, key, what
