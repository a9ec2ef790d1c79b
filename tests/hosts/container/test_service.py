"""The container host from Python: a run is served without the command line, and what it says goes where it is told."""

import asyncio
import gzip
import os
import signal
from itertools import islice

import pytest

from lmstream.config import load
from lmstream.errors import ConfigError, SourceError
from lmstream.hosts.container import signals
from lmstream.hosts.container.service import serve
from lmstream.lab.generator import Generator


@pytest.fixture
def config(tmp_path):
    """Makes the configuration of a run from a folder of bundles to a landing folder."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    for number, bundle in enumerate(islice(Generator(instances=2).bundles(), 3)):
        (folder / f"{number}.json").write_bytes(bundle.payload)

    def make(**more):
        base = {
            "engine.org_id": "acme",
            "source.type": "files",
            "source.paths": (str(folder),),
            "sink.type": "local",
            "sink.root": str(tmp_path / "landed"),
            "dead_letters.root": str(tmp_path / "dead"),
        }
        return load(env={}, overrides=base | more)

    return make


async def test_a_run_is_served_to_its_end_and_nothing_is_printed(config, tmp_path, capsys):
    settled = []
    progress = await serve(config(), on_settled=lambda *each: settled.append(each))
    assert (progress.records, progress.dead_letters, progress.unacked) == (3, 0, 0)
    assert len(settled) == 3
    assert list((tmp_path / "landed").rglob("*.gz"))
    assert capsys.readouterr() == ("", "")


async def test_what_cannot_be_written_is_refused_before_anything_is_read(config, tmp_path):
    (tmp_path / "landed").write_bytes(b"no folder")
    broken = []
    with pytest.raises(ConfigError, match="landed"):
        await serve(config(), broken=lambda *each: broken.append(each))
    assert not broken


async def test_a_run_that_breaks_says_how_far_it_came(config, tmp_path):
    (tmp_path / "bundles/9.json.gz").write_bytes(gzip.compress(os.urandom(1000))[:500])
    broken = []
    with pytest.raises(SourceError, match=r"9\.json\.gz") as raised:
        await serve(config(), broken=lambda *each: broken.append(each))
    ((progress, error),) = broken
    assert error is raised.value
    assert progress.records == 4  # the damaged one is dead-lettered
    assert progress.dead_letters == 1


async def stopped(run):
    """Serve a run, and send this process the signal that stops one."""
    running = asyncio.create_task(run)
    async with asyncio.timeout(20):
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(20):
        return await running


async def test_a_signal_stops_a_run_cleanly_and_is_told_of(config, monkeypatch):
    # The last resort counts on after the run, for the interpreter's own end may hang: it would end these tests.
    monkeypatch.setattr(signals.LastResort, "arm", lambda _, seconds: said.append(seconds))
    said, read, write = [], *os.pipe()
    with os.fdopen(read) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        progress = await stopped(serve(config(**{"source.paths": ("-",)}), say=said.append))
    os.close(write)
    assert progress.unacked == 0
    seconds, line = (each for each in said if "cannot be read twice" not in str(each))
    assert seconds == 29
    assert line.startswith("stopping: ")
    assert "29 s at most" in line


class Torn:
    """A view that breaks at one of its calls."""

    def __init__(self, at):
        self.at, self.readings, self.calls = at, None, []

    def _called(self, name):
        self.calls.append(name)
        if name == self.at:
            raise KeyError(name)

    def __enter__(self):
        self._called("enter")

    def __exit__(self, *error):
        self._called("exit")

    def __call__(self, progress):  # noqa: ARG002 - the seam
        self._called("show")


@pytest.mark.parametrize("at", ["enter", "show", "exit"])
async def test_a_view_that_breaks_is_said_once_and_ends_no_run(config, caplog, at):
    view = Torn(at)
    progress = await serve(config(**{"runtime.progress_interval": 0.001}), view)
    assert (progress.records, progress.unacked) == (3, 0)
    said = [each for each in caplog.records if "the view of the run failed" in each.getMessage()]
    assert len(said) == 1
    assert f"KeyError: '{at}'" in said[0].getMessage()
    assert view.calls.count("exit") == 1, "it is closed, whatever it showed"
    assert view.calls.count("show") == (1 if at == "show" else 0 if at == "enter" else view.calls.count("show"))
