"""Write docs/images/run.svg anew: what `lmstream run` shows on a terminal, before, in and after an outage of the sink.

    make pictures

Nothing in the picture is drawn by hand: a run on the embedded broker and the strict Firehose, in a pseudo-terminal.
"""

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import tempfile
import termios
from pathlib import Path

from lmstream import Settings
from lmstream.lab import FirehoseLab, KafkaLab, StreamConfig

sys.path.insert(0, str(Path(__file__).parent))
from terminal_svg import svg

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "run.svg"
TOPIC = "lm.metrics.otlp"
WIDTH, HEIGHT = 92, 40
BEFORE, OUTAGE, AFTER = 8.0, 9.0, 8.0  # seconds
_REDRAWN = re.compile(r"(?:\x1b\[2K|\x1b\[1A|\r)+")
"""How rich goes back to the first line of what it refreshes."""


class Screen:
    """One lmstream in a pseudo-terminal, and what it shows."""

    def __init__(self, *words, env):
        self._words, self._env, self._shown = words, env, b""
        self._more = asyncio.Event()

    async def __aenter__(self):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lmstream", *self._words, stdout=theirs, stderr=theirs, env=self._env
        )
        os.close(theirs)
        asyncio.get_running_loop().add_reader(self._ours, self._read)
        return self

    def _read(self):
        try:
            self._shown += os.read(self._ours, 65536)
            self._more.set()
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self._ours)

    async def until(self, words):
        async with asyncio.timeout(60):
            while words not in self._shown:
                self._more.clear()
                await self._more.wait()

    def frame(self):
        """The panel as it was drawn last."""
        text = self._shown.decode("utf-8", "replace").replace("\r\n", "\n")
        drawn = [each for each in _REDRAWN.split(text) if "Ctrl-C" in each]
        return drawn[-1].split("\x1b[?25", 1)[0].strip("\n")

    async def __aexit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)


async def record(folder):
    """Frames of the three moments."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LMSTREAM_", "AWS_"))}
    env |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab", "TERM": "xterm-256color"}
    config = StreamConfig.for_settings("rows", Settings(org_id="acme"), speed_up=30.0)
    frames = []
    async with KafkaLab() as kafka, FirehoseLab(config, folder / "landed") as hose:
        await kafka.create_topic(TOPIC, 3)
        publisher = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lmstream", "publish", "--bootstrap", kafka.bootstrap, "--topic", TOPIC),
            *("--rate", "60", "--duration", "600", "--chaos", "0.02", "--poison", "0.01", "--devices", "20"),
            *("--datasources", "4"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=env,
        )
        try:
            run = ("run", "--bootstrap", kafka.bootstrap, "--topic", TOPIC, "--group", "acme-rows")
            run += ("--org", "acme", "--stream", "rows")
            run += ("--region", "us-east-1", "--endpoint-url", hose.endpoint_url)
            async with Screen(*run, "--dead-letters", str(folder / "dead-letters"), env=env) as screen:
                await screen.until(b"behind")  # lag is known: it is a member and has read
                await asyncio.sleep(BEFORE)
                frames.append(("everything is well", screen.frame()))
                hose.outage = True
                await asyncio.sleep(OUTAGE)
                frames.append(
                    ("Firehose answers 503: nothing is lost, and nothing undelivered is committed", screen.frame())
                )
                hose.outage = False
                await asyncio.sleep(AFTER)
                frames.append(("Firehose is back", screen.frame()))
        finally:
            publisher.terminate()
            await publisher.wait()
    return frames


def draw(frames):
    """One picture of all frames."""
    typed = "\x1b[2m$ lmstream run --topic lm.metrics.otlp --stream rows --dead-letters ./dead-letters …\x1b[0m"
    shown = "\n".join([typed, *(f"\n\x1b[2m{title}\x1b[0m\n{frame}" for title, frame in frames)])
    PICTURE.write_text(svg("lmstream run, before, in and after an outage of Firehose", shown, WIDTH), encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        draw(asyncio.run(record(Path(temporary))))
    print(f"written: {PICTURE}", file=sys.stderr)
