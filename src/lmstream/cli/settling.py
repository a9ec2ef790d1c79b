"""How long `verify` waits for rows that Firehose may still buffer."""

import asyncio
import time
from typing import Final

from lmstream.abilities import Describable
from lmstream.aws.described_stream import USUAL_SECONDS, stream_facts
from lmstream.cli import terminal
from lmstream.config import Config, build_sink
from lmstream.errors import LmstreamError
from lmstream.storage.objects import SCHEME

_LONGEST_BUFFER: Final = 900
"""Seconds: IntervalInSeconds of BufferingHints is 0 to 900,
docs.aws.amazon.com/firehose/latest/APIReference/API_BufferingHints.html."""
_ON_THE_WAY: Final = 60
"""Seconds on top: Firehose begins to deliver when the interval is over."""


def interval(config: Config, landed: str) -> float:
    """Seconds that rows may take from Firehose into the bucket; 0 where nothing buffers them."""
    if not landed.startswith(SCHEME) or (config.sink is not None and config.sink.name != "firehose"):
        return 0.0
    if config.sink is None:
        return _LONGEST_BUFFER + _ON_THE_WAY

    async def ask() -> float:
        sink = build_sink(config)
        try:
            described = await sink.describe() if isinstance(sink, Describable) else {}
        finally:
            await sink.close()
        stream = stream_facts(described)
        return float(USUAL_SECONDS if stream is None else stream.seconds)

    try:
        return asyncio.run(ask()) + _ON_THE_WAY
    except LmstreamError as e:
        terminal.say(f"the stream cannot be described ({e}): taking the longest buffer there is; --settle says another")
        return _LONGEST_BUFFER + _ON_THE_WAY


def wait(seconds: float) -> None:
    """Wait for what Firehose buffers, and say so."""
    terminal.say(
        f"rows are missing that Firehose may still buffer: looking again in {seconds:.0f} s (--no-wait does not)"
    )
    time.sleep(seconds)
