"""Every sink in the folder passes the suite that is given to others, but for those whose promise is tested elsewhere."""

import importlib
import io
import pkgutil

import pytest

import lmstream.sinks
from lmstream.lab import FirehoseLab, StreamConfig
from lmstream.settings import Settings
from lmstream.sinks import firehose, null, stdout
from lmstream.testing import Memory, SinkConformance, samples

MODULES = {m.name for m in pkgutil.iter_modules(lmstream.sinks.__path__) if not m.name.startswith("_")}


class TestStdout(SinkConformance):
    def make(self):
        self.stream = getattr(self, "stream", None) or io.BytesIO()
        return stdout.make(stdout.Settings(), stream=self.stream)

    def landed(self):
        return self.stream.getvalue().splitlines()


class TestMemory(SinkConformance):
    """The double that tests take for a sink is one."""

    def make(self):
        self.sinks = [*getattr(self, "sinks", []), Memory()]
        return self.sinks[-1]

    def landed(self):
        return [line for sink in self.sinks for line in sink.lines]


class TestFirehose(SinkConformance):
    schedules = 6  # each with a lab of its own

    @pytest.fixture(autouse=True)
    def credentials(self, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "lab")

    async def up(self):
        config = StreamConfig.for_settings("rows", Settings(org_id="acme"), gzip=False)
        self.lab = await FirehoseLab(config, self.folder / "landed").__aenter__()

    async def down(self):
        await self.lab.close()

    def make(self):
        return firehose.make(firehose.Settings(stream="rows", region="us-west-2", endpoint_url=self.lab.endpoint_url))

    async def landed(self):
        await self.lab.flush()
        files = [file for file in (self.folder / "landed").glob("**/*") if file.is_file()]
        return sorted(line for file in files for line in file.read_bytes().splitlines() if line.strip())


def test_every_sink_in_the_folder_is_tested_here():
    traits = {name: getattr(importlib.import_module(f"lmstream.sinks.{name}"), "TRAITS", None) for name in MODULES}
    lakes = {name for name, said in traits.items() if said is not None and said.claims}
    assert lakes == {"local", "s3"}  # what they promise is tested in tests/lake
    assert {"stdout", "firehose", "null"} | lakes == MODULES


async def test_null_keeps_nothing_and_counts():
    sink = null.make(null.Settings())
    some = samples.packs(sink.limits, 3)
    assert list(await sink.write(some)) == [None] * 3
    assert (sink.rows, sink.bytes) == (6, sum(len(each.data) for each in some))
