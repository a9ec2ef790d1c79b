"""The table of prices: one entry for each price, with its date, its source, and what it is in each region."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from lmstream.config.convert import convert
from lmstream.config.places import Layer, layer_of_file
from lmstream.errors import ConfigError, refuse

BASE: Final = "us-east-1"
"""The region whose price stands in for one that the table does not have."""


class Rates(Struct, frozen=True, kw_only=True):
    """Prices of one region in USD; prices.toml says what each is."""

    firehose_gb: float
    partitioning_gb: float
    partitioning_1000_objects: float
    partitioning_jq_hour: float
    s3_gb_month: float
    s3_1000_puts: float
    s3_1000_gets: float
    s3_ia_gb_month: float
    s3_instant_gb_month: float
    s3_flexible_gb_month: float
    tiering_1000_objects: float
    tiering_1000_transitions: float
    instant_1000_transitions: float
    flexible_1000_transitions: float
    lambda_gb_second_arm64: float
    lambda_gb_second_x86_64: float
    lambda_1m_requests: float
    lambda_provisioned_gb_second_arm64: float
    lambda_provisioned_gb_second_x86_64: float
    snapstart_cache_gb_second: float
    snapstart_restore_gb: float
    epu_hour: float
    fargate_vcpu_hour_arm64: float
    fargate_vcpu_hour_x86_64: float
    fargate_gb_hour_arm64: float
    fargate_gb_hour_x86_64: float
    pipes_1m_requests: float
    msk_broker_hour: float
    msk_gb_month: float
    private_ca_month: float
    nat_hour: float
    nat_gb: float
    endpoint_hour: float
    endpoint_gb: float
    cross_zone_gb: float
    kms_key_month: float
    kms_10000_requests: float
    secret_month: float
    alarm_month: float
    dashboard_month: float
    metric_month: float
    log_gb: float
    athena_tb: float


class Price(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One price."""

    of: str = ""
    """What it is paid for."""
    date: str
    """When it was looked up."""
    source: str
    usd: dict[str, float]
    """By region."""


_Table: Final = msgspec.defstruct(
    "_Table",
    [(name, float | Price) for name in Rates.__struct_fields__],
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
)


class Paid(Struct, frozen=True):
    """A price as it was taken for a deployment."""

    usd: float
    region: str
    """Whose price it is; empty: the user's own."""
    date: str
    source: str


class Prices(Struct, frozen=True):
    """A whole table: an entry, or a number that its owner pays in every region."""

    of: dict[str, Price | float]

    def at(self, region: str) -> dict[str, Paid]:
        """The prices of a region; where the table has none, that of BASE."""
        paid = {}
        for name, price in self.of.items():
            if isinstance(price, Price):
                where = region if region in price.usd else BASE
                paid[name] = Paid(price.usd[where], where, price.date, price.source)
            else:
                paid[name] = Paid(price, "", "", "your own")
        return paid

    @property
    def as_of(self) -> str:
        """The oldest of the dates; empty when all prices are numbers."""
        return min((price.date for price in self.of.values() if isinstance(price, Price)), default="")


def prices(path: Path | str | None = None) -> Prices:
    """Read a price table; None is the one that comes with lmstream. Raises ConfigError."""
    layer = Layer("prices.toml", tomllib.loads(own())) if path is None else layer_of_file("prices", path)
    made = convert((), layer.tables, _Table, [layer])
    found: dict[str, Price | float] = {name: getattr(made, name) for name in Rates.__struct_fields__}
    without = [name for name, price in found.items() if isinstance(price, Price) and BASE not in price.usd]
    what = f"usd has no {BASE}, which stands in for other regions"
    refuse([ConfigError("config.invalid", f"prices {path}: {name}.{what}") for name in without])
    return Prices(found)


def own() -> str:
    """The text of the table that comes with lmstream."""
    return (resources.files("lmstream.deployment") / "prices.toml").read_text(encoding="utf-8")
