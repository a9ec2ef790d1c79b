"""Where rows landed: what --landed says, or else the configuration."""

from dataclasses import replace

from lmstream.abilities import InFolder
from lmstream.cli.flags import FileFlags
from lmstream.config import Config
from lmstream.errors import ConfigError
from lmstream.storage.objects import S3Access


def landed_of(named: str | None, s3: S3Access, file: FileFlags) -> tuple[str, S3Access]:
    """The place that is `named`, or that of the configured sink, and how its bucket is reached. Raises ConfigError."""
    if named is not None and file.config is None and not file.settings:
        return named, s3  # whatever variables say: they are not needed
    config = file.load()
    if named is not None:
        return named, s3
    place, access = landed_in(config)
    return place, replace(s3, endpoint_url=s3.endpoint_url or access.endpoint_url, region=s3.region or access.region)


def landed_in(config: Config) -> tuple[str, S3Access]:
    """Where the sink of a configuration puts rows, and how it is reached. ConfigError when it does not say."""
    part = config.sink
    if part is not None and isinstance(part.settings, InFolder):
        return part.settings.folder, S3Access()
    if part is not None and part.traits.claims:
        lake = part.settings
        access = S3Access(endpoint_url=lake.endpoint_url or None, region=lake.region or None)
        return f"s3://{lake.bucket}/{lake.rows}", access
    kind = "no sink is set" if part is None else f"sink.type {part.name} does not say where rows land"
    fix = "give --landed FOLDER or s3://BUCKET/PREFIX, or --config of a run that lands in a folder or in S3"
    raise ConfigError("config.invalid", f"--landed is not given, and {kind}", fix)
