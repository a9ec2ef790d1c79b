"""Land files in a folder while the process is killed at random system calls, time and again: `main` for tests.

A process of its own without threads, so that it may fork: each child is one run, and kills itself with SIGKILL before or
after the n-th call that changes the disk. Prints one JSON object a seed.
"""

import asyncio
import gzip
import json
import logging
import os
import random
import signal
import sys
from itertools import islice
from pathlib import Path

from lmstream.config import build_runtime, load
from lmstream.lab.generator import Generator

CALLS = ("open", "write", "fsync", "link", "unlink", "mkdir")
MOST = 200  # runs until one gets to the end


def die_at(number, *, after):
    """Have this process killed at its n-th call that changes the disk."""
    seen = iter(range(1, 1 << 30))

    def dying(real):
        def call(*args, **more):
            now = next(seen) == number
            if now and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = real(*args, **more)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))


def run(files, root):
    """One run to its end."""
    logging.disable()
    config = load(
        env={},
        overrides={
            "source.type": "files",
            "source.paths": [str(files)],
            "sink.type": "local",
            "sink.root": str(root / "landed"),
            "sink.window_rows": 40,
            "dead_letters.type": "letters",
            "dead_letters.root": str(root / "letters"),
            "engine.org_id": "acme",
            "engine.path": "{orgKey}/{yyyy}/{MM}/{dd}/",
        },
    )
    asyncio.run(build_runtime(config).run())


def child(files, root, rng):
    """Whether a run got to its end."""
    number, after = rng.randrange(1, 250), rng.random() < 0.5
    pid = os.fork()
    if not pid:
        code = 1
        try:
            die_at(number, after=after)
            run(files, root)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    assert os.waitstatus_to_exitcode(status) == 0, status
    return True


def rename(files, rng):
    """Give the files other names, in another order."""
    paths = [path for path in files.iterdir() if path.name != "bad.json"]  # its letter is named after it
    rng.shuffle(paths)
    for number, path in enumerate(paths):
        path.rename(files / f"{rng.random()}-{number}.json")


def main(root, seeds):
    """Play seeds; answers nothing, says what landed."""
    for seed in range(seeds):
        rng, here = random.Random(seed), root / str(seed)
        files = here / "files"
        files.mkdir(parents=True)
        bundles = list(islice(Generator(instances=2, seed=seed).bundles(), 30))
        for number, bundle in enumerate(bundles):
            (files / f"{number}.json").write_bytes(bundle.payload)
        (files / "bad.json").write_bytes(b'{"resourceMetrics": 5}')
        kills = 0
        while kills < MOST and not child(files, here, rng):
            kills += 1
            rename(files, rng)
        found = [
            json.loads(line)["rowId"]
            for path in sorted((here / "landed/acme").rglob("*.gz"))
            for line in gzip.decompress(path.read_bytes()).splitlines()
        ]
        letters = len([path for path in (here / "letters").rglob("*.json") if "/." not in str(path)])
        said = {
            "seed": seed, "kills": kills, "expected": sum(each.rows for each in bundles), "rows": len(found),
            "different": len(set(found)), "letters": letters,
            "windows": len(list((here / "landed/_lmstream/claims").rglob("*.json"))),
        }  # fmt: skip
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
