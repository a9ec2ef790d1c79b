"""Where the parts of a site listen: apart from them, so that verbs which only look for a lab need no extra."""

from typing import Final

from msgspec import Struct

LANDED: Final = "landed"
"""The bucket in which rows land, and its folder."""


class Ports(Struct, frozen=True):
    """Ports on 127.0.0.1; 0 is any free one."""

    kafka: int = 0
    firehose: int = 0
    s3: int = 0
