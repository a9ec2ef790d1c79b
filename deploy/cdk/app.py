"""The CDK app: `make synth` runs it; LMSTREAM_DEPLOYMENT names another file of settings
than settings.toml, LMSTREAM_ZIPS another folder of zips than dist."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from aws_cdk import App

from lmstream.deployment import Deployment, load
from lmstream.errors import ConfigError
from lmstream_cdk.base import FLAGS
from lmstream_cdk.build import build

HERE = Path(__file__).resolve().parent


def settings_file() -> Path:
    """The deployment's settings."""
    return Path(os.environ.get("LMSTREAM_DEPLOYMENT") or HERE / "settings.toml")


def notes(deployment: Deployment) -> Iterator[str]:
    """What deploys and does not work until somebody has done something by hand."""
    if not deployment.operations.email:
        yield "operations.email is empty: nobody hears of alarms until somebody subscribes to them"
    tag = "the cost allocation tag `lmstream`, once (docs/deploy.md, A first deploy)"
    yield f"the budget counts nothing until the payer's account has activated {tag}"


def main() -> int:
    """Synthesize into cdk.out; exit 2 with one message for settings that cannot work."""
    app = App(outdir=os.environ.get("CDK_OUTDIR") or str(HERE / "cdk.out"), context=dict(FLAGS))
    try:
        deployment = load(settings_file())
        build(app, deployment, Path(os.environ.get("LMSTREAM_ZIPS") or HERE.parents[1] / "dist"))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for note in notes(deployment):
        sys.stderr.write(f"note: {note}\n")
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
