"""`lmstream up` and other verbs as processes in one folder, as a user in two terminals."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ENV = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTREAM_", "AWS_"))} | {
    "COLUMNS": "200",
    # What a user may have set must not matter: the lab talks to itself.
    "HTTP_PROXY": "http://127.0.0.1:1",
    "http_proxy": "http://127.0.0.1:1",
}
PATIENCE = 60.0


def until(look, what, seconds=PATIENCE):
    """Answer what `look` answers once it is true."""
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends, f"not in {seconds} s: {what}"
        time.sleep(0.05)
    return found


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Terminal:
    """Processes in one folder."""

    def __init__(self, folder):
        self.folder = folder
        # A port of its own: whoever has the usual one would answer for the run of this terminal.
        self.env = ENV | {"LMSTREAM_ENDPOINTS__ADDRESS": f"127.0.0.1:{free_port()}"}
        self.running = []

    def verb(self, *args, seconds=120):
        """Run a verb to its end."""
        return self._done([sys.executable, "-m", "lmstream", *map(str, args)], seconds)

    def script(self, text, seconds=120):
        """Run lines that somebody pastes."""
        return self._done(["sh", "-ec", text], seconds)

    def _done(self, command, seconds):
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=self.env,
            timeout=seconds,
        )

    def well(self, *args):
        """Run a verb that has to end with 0; what it printed."""
        done = self.verb(*args)
        assert done.returncode == 0, (args, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout

    def begin(self, *args):
        """Start a verb that stays."""
        return self.starting([sys.executable, "-m", "lmstream", *map(str, args)], args[0])

    def starting(self, command, name):
        """Start a command; `log` has what it says."""
        log = self.folder / f"{name}-{len(self.running)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.env,
            )
        process.log = log
        self.running.append(process)
        return process

    def up(self, *args):
        """`up --json`, once it is ready; what it printed."""
        process = self.begin("up", "--json", *args)

        def ready():
            said = process.log.read_text()
            assert process.poll() is None, said
            return next((line for line in said.splitlines(keepends=True) if line[0] == "{" and line[-1] == "\n"), None)

        told = json.loads(until(ready, "up is ready"))
        self.source(Path(told["env"]))
        return process, told

    def source(self, file):
        """Take the variables of a file of `export` and `unset`, by a shell."""
        script = f'. "{file}" && env -0'
        done = subprocess.run(["sh", "-c", script], capture_output=True, env=self.env, check=True, timeout=20)
        self.env = dict(each.split("=", 1) for each in done.stdout.decode().split("\0") if each)

    def stop(self, process, number=signal.SIGTERM):
        """A signal, and the exit code."""
        process.send_signal(number)
        return process.wait(PATIENCE)

    def close(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()


@contextlib.contextmanager
def terminal(folder):
    folder.mkdir(parents=True, exist_ok=True)
    made = Terminal(folder)
    try:
        yield made
    finally:
        made.close()
