"""Who may do what on a Kafka cluster: the grants that lmstream's path needs, and the order in which they are safe.

The first ACL of a resource shuts out everybody whom none names. So brokers come first, then an administrator, and only
then those who read and write: docs.aws.amazon.com/msk/latest/developerguide/msk-acls.html.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

from lmstream.errors import ConfigError, LmstreamError, refuse

ANY: Final = "*"
CLUSTER: Final = "kafka-cluster"
"""Kafka's name of the one resource that is the cluster."""
_PRINCIPAL: Final = re.compile(r"User:\S.*")
_MSK: Final = re.compile(r"b-\d+\.([a-z0-9-]+\.[a-z0-9]+\.c\d+\.kafka\.[a-z0-9-]+\.amazonaws\.com(\.cn)?):\d+")


class Grant(Struct, frozen=True, order=True):
    """One ACL: a principal is allowed an operation on a resource, from any host."""

    principal: str
    operation: str
    resource: Literal["cluster", "topic", "group"]
    name: str

    @property
    def command(self) -> str:
        """Arguments of kafka-acls.sh that name it."""
        where = "--cluster" if self.resource == "cluster" else f"--{self.resource} '{self.name}'"
        return f"--allow-principal '{self.principal}' --operation {self.operation} {where}"


class Access(Struct, frozen=True, kw_only=True):
    """Who plays which part. Principals as Kafka writes them: `User:CN=lmstream`."""

    topic: str
    group: str
    brokers: tuple[str, ...]
    administrators: tuple[str, ...]
    readers: tuple[str, ...]
    collectors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would shut brokers or administrators out. Raises ConfigError."""
        wrong: list[LmstreamError] = []
        for flag, who, why in (
            ("--brokers", self.brokers, "without it replicas of the topic fall behind"),
            ("--administrator", self.administrators, "without it no one could change or remove an ACL"),
            ("--reader", self.readers, "lmstream could not read"),
        ):
            if not who:
                wrong.append(ConfigError("config.invalid", f"{flag} is missing: {why}"))
        for each in (*self.brokers, *self.administrators, *self.readers, *self.collectors):
            if not _PRINCIPAL.fullmatch(each) or each == "User:*":
                what = f"{each!r} is not a principal of one client: expected User: and the certificate's subject"
                wrong.append(ConfigError("config.invalid", f"{what}, as in User:CN=lmstream"))
        if shared := set(self.administrators) & {*self.readers, *self.collectors}:
            what = f"{shared.pop()} is administrator and client: a leaked certificate could do anything"
            wrong.append(ConfigError("config.invalid", what))
        refuse(wrong)

    def steps(self) -> list[tuple[str, list[Grant]]]:
        """Grants by step, in the order in which they are to be made."""

        def grants(who: Iterable[str], *rights: tuple[str, Literal["cluster", "topic", "group"], str]) -> list[Grant]:
            return [Grant(each, *right) for each in who for right in rights]

        topic, group = self.topic, self.group
        return [
            ("brokers", grants(self.brokers, ("Read", "topic", topic), ("Read", "group", ANY))),
            (
                "administrators",
                [
                    # MSK's brokers are super users, says its page of today; earlier ones did not. Where they are not,
                    # copying asks for this, which the administrators' ACL would take from them; and this alone would
                    # take the cluster from who makes it: both in one request.
                    *grants(self.brokers, ("ClusterAction", "cluster", CLUSTER)),
                    *grants(
                        self.administrators, ("All", "cluster", CLUSTER), ("All", "topic", ANY), ("All", "group", ANY)
                    ),
                ],
            ),
            (
                "readers",
                grants(self.readers, ("Read", "topic", topic), ("Describe", "topic", topic), ("Read", "group", group)),
            ),
            ("collectors", grants(self.collectors, ("Write", "topic", topic), ("Describe", "topic", topic))),
        ]


def brokers_of(bootstrap: str) -> str:
    """The principal of MSK's brokers, from one of their addresses; empty when it is none of MSK.

    As AWS's page has it: the name of any broker with an asterisk before the first period.
    """
    for each in bootstrap.split(","):
        if found := _MSK.fullmatch(each.strip()):
            return f"User:CN=*.{found[1]}"
    return ""
