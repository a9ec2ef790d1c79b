"""`lmstream validate`: what is wrong with a configuration or a deployment, before it costs a night or money."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lmstream.errors import ConfigError


def validate(
    *,
    deployment: Path | None = None,
    prices: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Work out rates, quotas and monthly cost of a deployment in AWS. Exit 2 when a quota is passed.

    Parameters
    ----------
    deployment
        Settings of a deployment, as deploy/cdk/settings.toml.
    prices
        Another price table than the one that comes with lmstream.
    as_json
        Figures as JSON.
    """
    if deployment is None:
        raise ConfigError("config.invalid", "--deployment FILE is needed: the settings of deploy/cdk")
    from lmstream.cli.deployment import run

    return run(deployment, prices, as_json=as_json)
