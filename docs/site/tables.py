"""Draw every table of lmstream at 80 columns, and an error, into docs/images/terminal: the verbs themselves are run.

    make pictures

A lab of `lmstream up` in a temporary folder has the same records each time, with the same times, so that the same
pictures come out; only `lag` and `top` show clocks and ports. A test draws them again and compares.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pty
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from terminal_svg import svg

ROOT: Final = Path(__file__).parents[2]
PICTURES: Final = ROOT / "docs" / "images" / "terminal"
TOPIC: Final = "lm.metrics.otlp"
BEGINNING: Final = 1_795_514_400_000  # 2026-11-24T10:00:00Z, of records and of what they say
RECORDS: Final = 40
EVERY: Final = 100  # milliseconds between two of them: all in one hour
PATIENCE: Final = 60.0


class Picture(NamedTuple):
    """A verb, as somebody types it, and how much of a long answer is shown."""

    typed: str
    lines: int = 40
    clock: bool = False
    """Whether it shows times, ports or last digits that are others each time."""
    terminal: bool = False
    """Whether it is run on a terminal: panels and colours are shown there alone."""


SHOWN: Final[Mapping[str, Picture]] = {
    "inspect": Picture(f"inspect {TOPIC}/0/1 --rows", 12),
    "shape": Picture(
        f"shape {TOPIC}/0 --last 10 --set "
        """'engine.rules=[{"name":"no-ping","when":{"datasource":"Ping*"},"drop":true},{"name":"no-scope","leave_out":["scope"]}]'"""
    ),
    "query": Picture("query --landed lab/landed", 12, clock=True),  # a mean is summed in any order
    "trace": Picture("trace --device 1017595 --hour 2026-11-24T10", 10),
    "verify": Picture(f"verify --topic {TOPIC} --landed lab/landed --dead-letters lab/dead-letters", clock=True),
    "dlq-ls": Picture("dlq ls"),
    "dlq-stats": Picture("dlq stats"),
    "lag": Picture("lag", clock=True),
    "top": Picture("top --once", clock=True),
    "lake-repair": Picture("lake repair"),
    "lake-compact": Picture("lake compact", 10),
    "acls": Picture(
        f"acls --topic {TOPIC} --reader User:CN=lmstream --collector User:CN=collector --brokers User:CN=broker "
        "--administrator User:CN=admin",
        11,
    ),
    "config-show": Picture("config show --origin", 14),
    "validate": Picture("validate --deployment deployment.toml", 22),
    "telemetry-ls": Picture("telemetry ls", 14),
    "explain": Picture("explain", 16),
    "error": Picture("validate --config wrong.toml", terminal=True),
}
"""By name of the picture."""


class Lab:
    """A folder with `lmstream up`, and verbs in it as somebody runs them in a second terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTREAM_", "AWS_")) and k != "NO_COLOR"}
        self.env = clean | {
            "COLUMNS": "80",
            "TERM": "xterm-256color",
            "LMSTREAM_CONFIG": "lab/lmstream.toml",
            "LMSTREAM_ENDPOINTS__ADDRESS": f"127.0.0.1:{_free_port()}",  # the usual one may be another run's
            "NO_PROXY": "127.0.0.1",
            "AWS_ACCESS_KEY_ID": "lab",
            "AWS_SECRET_ACCESS_KEY": "lab",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @contextlib.contextmanager
    def stays(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A verb that stays until the end."""
        command = [sys.executable, "-m", "lmstream", *words]
        out, log = ((self.folder / f"{words[0]}.{end}").open("wb") for end in ("out", "log"))
        with out, log, subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=out, stderr=log) as process:
            try:
                yield process
            finally:
                process.terminate()

    def shown(self, picture: Picture) -> str:
        """What a verb shows: the beginning, if that is long."""
        command = [sys.executable, "-m", "lmstream", *shlex.split(picture.typed)]
        said = self._on_a_terminal(command) if picture.terminal else self._in_a_pipe(command)
        lines = said.replace(f"{self.folder}/", "").rstrip("\n").split("\n")
        return "\n".join([*lines[: picture.lines], *(["…"] if len(lines) > picture.lines else [])])

    def _in_a_pipe(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        return done.stdout or done.stderr

    def _on_a_terminal(self, command: list[str]) -> str:
        ours, theirs = pty.openpty()
        with subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            said = b""
            with contextlib.suppress(OSError):  # the other end is closed
                while more := os.read(ours, 65_536):
                    said += more
            process.wait(PATIENCE)
        os.close(ours)
        return said.decode().replace("\r\n", "\n")

    def json(self, *words: str) -> list[dict[str, object]]:
        """The lines of a verb's --json."""
        said = self._in_a_pipe([sys.executable, "-m", "lmstream", *words, "--json"])
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def until(self, look, what: str):
        """Answer what `look` answers once it is true."""
        ends = time.monotonic() + PATIENCE
        while not (found := look()):
            if time.monotonic() > ends:
                said = {path.name: path.read_text() for path in self.folder.glob("*.log")}
                raise TimeoutError(f"not in {PATIENCE:.0f} s: {what}; {said}")
            time.sleep(0.2)
        return found


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def publish(lab: Lab, bootstrap: str, start: int) -> None:
    """The records of the pictures: some with odd points, some that are no bundles, one each tenth of a second."""
    from aiokafka import AIOKafkaProducer
    from aiokafka.helpers import create_ssl_context

    from lmstream.lab import Generator

    keys = lab.folder / "lab/certificates"
    tls = create_ssl_context(cafile=keys / "ca.pem", certfile=keys / "client.pem", keyfile=keys / "client.key")
    made = Generator(instances=3, seed=7, chaos=0.02, poison=0.1, start_ms=start).bundles()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, security_protocol="SSL", ssl_context=tls) as producer:
        for number, bundle in enumerate(islice(made, RECORDS)):
            when = start + number * EVERY
            await producer.send_and_wait(TOPIC, bundle.payload, partition=number % 4, timestamp_ms=when)


def draw(folder: Path, to: Path) -> None:
    """Run everything in a folder, and write the pictures into another."""
    lab = Lab(folder)
    (folder / "wrong.toml").write_text('[engine]\norg_idd = "acme"\n\n[sink]\ntype = "local"\ntimeout = "20s"\n')
    (folder / "deployment.toml").write_bytes((ROOT / "deploy/cdk/settings.toml").read_bytes())
    said: dict[str, str] = {}

    def take(*names: str) -> None:
        said.update({name: lab.shown(SHOWN[name]) for name in names})

    with lab.stays("up", "--dir", "lab", "--sink", "s3", "--topic", TOPIC, "--json"):
        ready = lab.until(
            lambda: (folder / "up.out").read_text().endswith("\n") and (folder / "up.out").read_text(), "up"
        )
        bootstrap = json.loads(ready)["bootstrap"]
        with lab.stays("run"):
            for part in range(3):  # windows: of two that are done there is something to put together
                asyncio.run(publish(lab, bootstrap, BEGINNING + part * RECORDS * EVERY))
                lab.until(lambda: all(each["records"] == 0 for each in lab.json("lag")), "all records are settled")
            take("top")
        asyncio.run(publish(lab, bootstrap, int(time.time() * 1000) - 90_000))
        take("lag", *(name for name in SHOWN if name not in {"top", "lag", "lake-repair"}))
        gone = min((folder / "lab/landed/acme/CpuUsage").rglob("*.gz"))
        gone.unlink()
        take("lake-repair")
    to.mkdir(parents=True, exist_ok=True)
    for name, text in said.items():
        (to / f"{name}.svg").write_text(
            svg(f"lmstream {SHOWN[name].typed}", f"\x1b[2m$ lmstream {SHOWN[name].typed}\x1b[0m\n{text}"),
            encoding="utf-8",
        )


def main() -> int:
    """Draw them into docs, or elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=PICTURES)
    to = parser.parse_args().to
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), to)
    print(f"{len(SHOWN)} pictures in {to}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
