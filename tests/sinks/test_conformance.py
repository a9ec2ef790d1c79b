"""Every sink in the folder keeps the promise of the seam: a verdict per pack in order, delivered is readable back."""

import asyncio
import gzip
import importlib
import io
import json
import pkgutil

import pytest

import lmstream.sinks
from lmstream.lab import FirehoseLab, StreamConfig
from lmstream.model import Pack
from lmstream.settings import Settings

MODULES = sorted(m.name for m in pkgutil.iter_modules(lmstream.sinks.__path__) if not m.name.startswith("_"))
LINE = (
    b'{"rowId":"%032d:0","orgId":"acme","orgKey":"acme","metricKey":"m","deviceId":"1","datasource":"d","metric":"m",'
    b'"type":"gauge","ts":"2024-05-09T14:05:58.360Z","tsUnixMs":1715263558360,"value":1}\n'
)
PATH = "acme/m/2024/05/09/14/"


class Host:
    """What one sink needs to run here: extra settings, and a way to read back what it says it delivered."""

    def __init__(self, module, folder):
        self.module, self.folder = module, folder

    async def __aenter__(self):
        self.sink = self.module.make(self.module.Settings())
        return self

    async def __aexit__(self, *_):
        await self.sink.close()

    async def lines(self):
        raise NotImplementedError


class LocalHost(Host):
    async def __aenter__(self):
        self.sink = self.module.make(self.module.Settings(root=str(self.folder / "root")))
        return self

    async def lines(self):
        files = sorted((self.folder / "root").glob("**/*.ndjson.gz"))
        return [line for file in files for line in gzip.decompress(file.read_bytes()).splitlines(keepends=True)]


class StdoutHost(Host):
    async def __aenter__(self):
        self.stream = io.BytesIO()
        self.sink = self.module.make(self.module.Settings(), stream=self.stream)
        return self

    async def lines(self):
        return self.stream.getvalue().splitlines(keepends=True)


class FirehoseHost(Host):
    async def __aenter__(self):
        config = StreamConfig.for_settings("rows", Settings(org_id="acme"), gzip=False)
        self.lab = await FirehoseLab(config, self.folder / "landed").__aenter__()
        self.sink = self.module.make(
            self.module.Settings(stream="rows", region="us-west-2", endpoint_url=self.lab.endpoint_url)
        )
        return self

    async def __aexit__(self, *_):
        await self.sink.close()
        await self.lab.close()

    async def lines(self):
        await self.lab.flush()
        files = [file for file in (self.folder / "landed").glob("**/*") if file.is_file()]
        return sorted(line for file in files for line in file.read_bytes().splitlines(keepends=True) if line.strip())


class NullHost(Host):
    """Delivers nowhere, and says so: what it can give back is how much it was given."""

    async def lines(self):
        return [LINE % number for number in range(self.sink.rows)]


HOSTS = {"null": NullHost, "local": LocalHost, "stdout": StdoutHost, "firehose": FirehoseHost}


def test_every_sink_in_the_folder_is_tested_here():
    traits = {name: getattr(importlib.import_module(f"lmstream.sinks.{name}"), "TRAITS", None) for name in MODULES}
    lakes = {name for name, said in traits.items() if said is not None and said.claims}
    assert lakes == {"s3"}  # what they promise is tested in tests/lake
    assert set(MODULES) == HOSTS.keys() | lakes


@pytest.mark.parametrize("name", [name for name in MODULES if name in HOSTS])
async def test_the_promise_of_a_sink(name, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "lab")
    module = importlib.import_module(f"lmstream.sinks.{name}")
    limits = module.make.limits if hasattr(module.make, "limits") else module.LIMITS
    assert min(limits.pack_bytes, limits.pack_rows, limits.request_packs) > 0
    assert limits.request_bytes >= limits.pack_bytes * (4 / 3 if limits.base64 else 1)
    packs = [Pack(LINE % (2 * n) + LINE % (2 * n + 1), 2, PATH if limits.by_path else "", ((0, 2),)) for n in range(20)]
    async with HOSTS[name](module, tmp_path) as host:
        assert list(await host.sink.write([])) == []
        answers = await asyncio.gather(*(host.sink.write(packs[at : at + 5]) for at in range(0, 20, 5)))
        assert [list(answer) for answer in answers] == [[None] * 5] * 4
        lines = await host.lines()
        assert sorted(json.loads(line)["rowId"] for line in lines) == [f"{n:032d}:0" for n in range(40)]
        await host.sink.close()
        await host.sink.close()
