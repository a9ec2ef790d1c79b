"""What the lab does on a machine where its broker does not run: generated bundles lie in files instead of a topic."""

from itertools import islice
from pathlib import Path

from lmstream.cli import terminal
from lmstream.errors import LmstreamError


def bundles_in(folder: Path, count: int, seed: int, why: LmstreamError) -> Path:
    """Say why there is no broker, and write generated bundles below `folder`; answer their folder. One that is there
    stays as it is. Raises OSError."""
    from lmstream.lab.generator import Generator

    place = folder / "bundles"
    terminal.say(f"no Kafka broker runs on this machine, so that bundles come from files in {place}: {why.detail}")
    terminal.say(f"fix: {why.fix}")
    if not place.exists():
        place.mkdir()
        made = Generator(seed=seed, devices=6, interval_ms=15 * 60_000).bundles()
        for number, bundle in enumerate(islice(made, count)):
            (place / f"{number:05d}.json").write_bytes(bundle.payload)
    return place
