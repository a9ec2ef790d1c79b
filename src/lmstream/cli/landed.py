"""Where rows landed: what --landed says, or else the configuration."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lmstream.abilities import Describable, InFolder
from lmstream.aws.described_stream import stream_facts
from lmstream.cli.flags import FileFlags
from lmstream.config import Config, build_sink
from lmstream.errors import ConfigError, LmstreamError
from lmstream.storage.objects import SCHEME, S3Access


def landed_of(named: str | None, s3: S3Access, file: FileFlags) -> tuple[str, S3Access]:
    """The place that is `named`, or that of the configured sink, and how its bucket is reached. Raises ConfigError."""
    if named is not None and file.config is None and not file.settings:
        return named, s3  # whatever variables say: they are not needed
    config = file.load()
    return (named, s3) if named is not None else landed_in(config, s3)


def landed_in(config: Config, s3: S3Access | None = None) -> tuple[str, S3Access]:
    """Where the sink of a configuration puts rows, and how it is reached, where `s3` does not say it. A stream of
    Firehose is asked. Raises ConfigError when that is not known."""
    s3 = s3 or S3Access()
    part = config.sink
    why = "no sink is set" if part is None else f"sink.type {part.name} does not say where rows land"
    if part is not None and isinstance(part.settings, InFolder):
        return part.settings.folder, s3
    if part is not None and part.traits.claims:
        lake = part.settings
        return f"{SCHEME}{lake.bucket}/{lake.rows}", _over(s3, lake.endpoint_url, lake.region)
    if part is not None:
        try:
            bucket, prefix = stream_place(config)
        except LmstreamError as e:
            why = f"the stream cannot be asked: {e.code} {e.detail}"
        else:
            if bucket:
                return f"{SCHEME}{bucket}/{prefix}", _over(s3, "", getattr(part.settings, "region", ""))
    fix = "give --landed FOLDER or s3://BUCKET/PREFIX, or --config of a run that lands in a folder or in S3"
    raise ConfigError("config.invalid", f"--landed is not given, and {why}", fix)


def stream_place(config: Config) -> tuple[str, str]:
    """The bucket of the configured stream, and what all its keys begin with; empty where the sink is no such stream.
    Raises LmstreamError."""

    async def ask() -> Mapping[str, Any]:
        sink = build_sink(config)
        try:
            return await sink.describe() if isinstance(sink, Describable) else {}
        finally:
            await sink.close()

    facts = stream_facts(asyncio.run(ask()))
    if facts is None:
        return "", ""
    # Expressions begin with !{, docs.aws.amazon.com/firehose/latest/dev/s3-prefixes.html.
    return facts.bucket, facts.prefix.partition("!{")[0].rpartition("/")[0]


def _over(s3: S3Access, endpoint_url: str, region: str) -> S3Access:
    return replace(s3, endpoint_url=s3.endpoint_url or endpoint_url or None, region=s3.region or region or None)
