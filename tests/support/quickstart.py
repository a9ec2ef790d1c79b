"""Types the commands of docs/quickstart.md into an empty folder, as a newcomer does, and measures.

    .venv/bin/python tests/support/quickstart.py              # installs, types, prints; --record writes the page

A command `lmstream lag` is repeated until no record waits, as the page says.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/quickstart.md"
TARGET = 180.0
"""Seconds from a bare machine to the first row of a topic of one's own in a folder of one's own."""
PATIENCE = 600.0
SHOWN = 14
"""Lines of an answer that the record has, at most."""
_MARK = "__typed__"
_DONE = "0 records wait"


def blocks():
    """The commands of the page, block by block."""
    text = PAGE.read_text("utf-8").partition("## More to try")[0]
    return [block.strip().splitlines() for block in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]


class Shell:
    """One terminal."""

    def __init__(self, folder, env, began, say):
        self._began, self._say = began, say
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=env,
        )

    def type(self, command, *, shown=True):
        """Type a command; its exit code and what came until it ended."""
        if shown:
            self._say(f"{time.monotonic() - self._began:6.1f} s  $ {command}")
        self.put(f"{command}\necho {_MARK} $?\n")
        lines = []
        for line in self._bash.stdout:
            if line.startswith(_MARK):
                return int(line.split()[1]), lines
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"the shell ended: {lines}")

    def put(self, text):
        self._bash.stdin.write(text)
        self._bash.stdin.flush()

    def end(self):
        self._bash.stdin.close()
        try:
            self._bash.wait(30)
        finally:
            self._bash.kill()
            self._bash.stdout.close()


class Typing:
    """A newcomer who types the page."""

    def __init__(self, folder, env, say):
        self.folder, self.env, self.say = Path(folder), env, say
        self.began = time.monotonic()
        self.first = None
        """Seconds to the first row."""
        self.shell = Shell(folder, env, self.began, say)
        self.log = self.folder / "up.log"
        self._up, self._background = None, []

    @property
    def seconds(self):
        return time.monotonic() - self.began

    def well(self, line):
        """Type a command that has to succeed."""
        code, lines = self.shell.type(line)
        for each in [*lines[: SHOWN - 2], "...", lines[-1]] if len(lines) > SHOWN else lines:
            self.say(f"           {each}")
        assert code == 0, (line, code, lines)

    def up(self, command, before):
        """Type in the first terminal, and wait until it is up."""
        self.say(f"{self.seconds:6.1f} s  $ {command}     # in the first terminal")
        with self.log.open("wb") as out:
            run = ["bash", "-c", f"{before}exec {command}"]
            self._up = subprocess.Popen(run, cwd=self.folder, env=self.env, stdout=out, stderr=out)
        self.until(lambda: "Ctrl-C stops it" in self.log.read_text() or self._up.poll() is not None)
        for line in self.log.read_text().splitlines():
            self.say(f"           {line}")

    def block(self, lines):
        """Type a block."""
        for line in lines:
            if line == "lmstream lag":
                self._until_nothing_waits(line)
                continue
            self.well(line)
            if line == "lmstream run &" and self.first is None:
                self.until(lambda: list((self.folder / "mine/landed").rglob("*.gz")))
                self.first = self.seconds
                self.say(f"{self.first:6.1f} s  the first rows are in mine/landed")
            if line.endswith("&"):
                self._background.append(self.shell.type("echo $!", shown=False)[1][-1])

    def _until_nothing_waits(self, line):
        said = []
        while not any(each.startswith(_DONE) for each in said):
            assert self.seconds < PATIENCE, said
            _, said = self.shell.type(line, shown=not said)
        self.say(f"           {said[-1]}")

    def until(self, look):
        ends = time.monotonic() + 120
        while not look():
            assert time.monotonic() < ends, self.log.read_text()
            time.sleep(0.05)

    def close(self):
        """End what was started, by its ids."""
        subprocess.run(["kill", "-9", *self._background], check=False, stderr=subprocess.DEVNULL)
        if self._up is not None:
            self._up.terminate()
            self._up.wait(30)
        self.shell.end()


def typed(folder, env, *, install=True, say=print):
    """Type the page. Answers seconds to the first row, and in all; raises AssertionError when a command fails."""
    installing, (up,), *rest = blocks()
    typing = Typing(folder, env, say)
    try:
        if install:
            typing.block(installing)
        typing.up(up, ". venv/bin/activate && " if install else "")
        for lines in rest:
            typing.block(lines)
    finally:
        typing.close()
    return typing.first, typing.seconds


def environment(folder, **more):
    """As on a machine with nothing on it: no caches, no settings of anybody's."""
    kept = {n: text for n, text in os.environ.items() if n in ("PATH", "LANG") or n.startswith(("PIP_", "SSL_"))}
    return kept | {"HOME": str(folder), "PIP_NO_CACHE_DIR": "1", "COLUMNS": "100", "CHECKOUT": str(ROOT), **more}


def record(lines, first, whole):
    """Write the record into the page."""
    text = PAGE.read_text("utf-8")
    said = f"{first:.0f} s from nothing installed to the first row, {whole:.0f} s in all, on two cores."
    text = re.sub(r"<!-- measured -->.*?\n\n", f"<!-- measured -->\n{said}\n\n", text, flags=re.DOTALL)
    text = text.partition("<!-- transcript -->")[0]
    PAGE.write_text(text + "<!-- transcript -->\n```text\n" + "\n".join(lines) + "\n```\n", "utf-8")


def main():
    lines, home = [], []

    def say(line):
        line = line.replace(str(ROOT), "$CHECKOUT").rstrip()
        for folder in home:
            line = line.replace(folder, "~")
        lines.append(line)
        print(line, flush=True)

    with tempfile.TemporaryDirectory(prefix="quickstart-") as folder:
        home.append(folder)
        first, whole = typed(folder, environment(folder), say=say)
    print(f"the first row after {first:.1f} s, all in {whole:.1f} s")
    if "--record" in sys.argv:
        record(lines, first, whole)
    return 0 if first < TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
