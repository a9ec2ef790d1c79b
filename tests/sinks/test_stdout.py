"""Standard output as a sink: a reader that goes away, and a disk that is full behind a redirection."""

import io
import os
import subprocess
import sys

from lmstream.model import Kind, Pack
from lmstream.sinks.stdout import Stdout
from lmstream.testing import Memory


def test_a_reader_that_goes_away_ends_without_a_traceback():
    program = """
import asyncio, sys
from lmstream.model import Pack
from lmstream.sinks.stdout import Stdout
async def main():
    sink = Stdout()
    while True:
        [verdict] = await sink.write([Pack(b"line\\n" * 10_000, 10_000)])
        if verdict is not None:
            break
    [again] = await sink.write([Pack(b"line\\n", 1)])
    assert again == verdict
    await sink.close()
    print("more that nobody reads")
    sys.stderr.write(f"{verdict.kind} {verdict.code}")
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"line\n"
        child.stdout.close()
        assert child.stderr.read() == b"fatal-config sink.pipe"
        assert child.wait(10) == 0


async def test_a_full_disk_is_retryable():
    with os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0) as full:
        [verdict] = await Stdout(stream=full).write([Pack(b"a\n", 1)])
    assert (verdict.kind, verdict.code) == (Kind.RETRYABLE, "ENOSPC")


async def test_lines_come_out_in_order():
    stream = io.BytesIO()
    sink = Stdout(stream=stream)
    await sink.write([Pack(b"a\nb\n", 2), Pack(b"c\n", 1)])
    await sink.close()
    assert stream.getvalue() == b"a\nb\nc\n"


async def test_memory_answers_what_the_judge_says():
    from lmstream.model import Failure

    once = {b"b\n"}

    def judge(pack):
        if pack.data in once:
            once.remove(pack.data)
            return Failure(Kind.RETRYABLE, "throttled")
        return None

    sink = Memory(judge=judge)
    packs = [Pack(b"a\n", 1), Pack(b"b\n", 1)]
    assert [v and v.code for v in await sink.write(packs)] == [None, "throttled"]
    assert await sink.write(packs[1:]) == [None]
    assert (sink.lines, len(sink.requests)) == ([b"a\n", b"b\n"], 2)
