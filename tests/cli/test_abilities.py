"""What our own sources and sinks can do, a third party's can: nothing hangs on a name."""

import asyncio
import json
import socket
import sys
import time
from types import SimpleNamespace

import pytest
from botocore.exceptions import EndpointConnectionError

from lmstream.abilities import (
    Askable,
    Certified,
    Check,
    Checkable,
    Describable,
    Health,
    Healthy,
    Loaded,
    Looking,
    Outliving,
    Pausable,
    Positions,
    Retained,
    Shared,
    Traits,
)
from lmstream.config import build_letters, build_sink, build_source, letters_part, load
from lmstream.config.questions import live
from lmstream.config.validation import arithmetic
from lmstream.errors import ConfigError
from lmstream.hosts.awslambda.host import from_environment
from lmstream.hosts.container.watching import ask_ends, ask_retention
from lmstream.hosts.container.workers import check, shares
from lmstream.observability.readings import Readings
from lmstream.runtime import Runtime
from lmstream.testing import ScriptedSink
from support.doubles import make

SOURCE = """
from msgspec import Struct
from lmstream.abilities import Traits
from lmstream.interfaces import Batch
from lmstream.model import Record

class Settings(Struct, frozen=True):
    values: tuple[str, ...] = ()
    which: int = 0
    def shares(self, count, /):
        return [{"values": self.values[n::count], "which": n} for n in range(count)]
    def remark(self):
        return "half of them are left out"

TRAITS = Traits(finite=True, commits=False, takes=("limits",))

class Theirs:
    def __init__(self, settings, *, limits):
        self.on_revoke, self.limits, self._settings = None, limits, settings
    async def poll(self, room, /):
        values = self._settings.values
        return Batch([Record(topic="t", partition=0, offset=n, value=v.encode()) for n, v in enumerate(values)], end=True)
    async def commit(self, offsets, /): pass
    async def close(self): pass

make = Theirs
"""
ASKED = """
import asyncio
from lmstream.abilities import Check, Traits
from lmstream.behind import Look, Retention
from lmstream.interfaces import Standing
from lmstream.model import TopicPartition
from acme.source import Settings, Theirs

TRAITS = Traits(takes=("limits",))

class Asked(Theirs):
    def __init__(self, settings, *, limits):
        super().__init__(settings, limits=limits)
        self.kept = asyncio.Event()
    def standings(self):
        return {TopicPartition("t", 0): Standing(next=3, end=7)}
    async def questions(self, workers, /):
        return [Check("their group", "failed", f"{workers} workers", "ask less")]
    async def look(self, start, /):
        return {tp: Look(0, 8, offset, (offset, 1000)) for tp, offset in start.items()}
    async def retentions(self):
        await self.kept.wait()
        return {"t": Retention(5.0), "forever": Retention(None)}

make = Asked
"""
QUEUE = """
from msgspec import Struct
from lmstream.abilities import Traits
from lmstream.sinks.null import LIMITS

class Settings(Struct, frozen=True):
    region: str = "eu-central-1"
    endpoint_url: str = ""
    concurrency: int = 8
    connect_timeout: float = 1.0
    read_timeout: float = 1.0

TRAITS = Traits(service="sqs")

class Queue:
    limits = LIMITS
    def __init__(self, settings, *, client=None):
        self.client = client
    async def write(self, packs, /):
        return [None for each in packs]
    async def close(self): pass

make = Queue
"""
SINK = """
import sys
from msgspec import Struct
from lmstream.abilities import Traits
from lmstream.errors import SinkError
from lmstream.sinks.null import LIMITS

class Settings(Struct, frozen=True):
    broken: bool = False

TRAITS = Traits(TRAITS_OF)

class Theirs:
    limits = LIMITS
    def __init__(self, settings):
        self._settings = settings
    async def check(self):
        if self._settings.broken:
            raise SinkError("sink.disk", "their disk is gone")
    async def write(self, packs, /):
        return [None] * len(packs)
    async def close(self): pass

make = Theirs
"""


pytestmark = pytest.mark.usefixtures("theirs")


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Modules of a third party: acme.source, and sinks acme.plain, acme.printing and acme.discarding."""
    package = tmp_path / "acme"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "source.py").write_text(SOURCE)
    (package / "endless.py").write_text(SOURCE.replace("finite=True, commits=False, ", ""))
    (package / "asked.py").write_text(ASKED)
    (package / "queue.py").write_text(QUEUE)
    for name, traits in {"plain": "", "printing": "prints=True", "discarding": "discards=True"}.items():
        (package / f"{name}.py").write_text(SINK.replace("TRAITS_OF", traits))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]


def config(source="acme.source", sink="acme.plain", **more):
    return load(env={}, overrides={"engine.org_id": "o", "source.type": source, "sink.type": sink, **more})


def test_a_module_without_traits_has_none_of_them():
    part = load(env={}, overrides={"dead_letters.root": "x"}).dead_letters
    assert part._replace(module=object()).traits == Traits()


def test_a_finite_source_of_theirs_gets_what_files_get():
    made = config(**{"engine.limits.record_bytes": 4096})
    assert made.finite
    assert letters_part(made).settings.root == "./dead-letters"
    build_letters(made)
    assert build_source(made).limits.record_bytes == 4096
    with pytest.raises(ConfigError, match=r"dead_letters\.root is not set"):
        build_letters(config("acme.endless"))


def test_a_discarding_sink_of_theirs_takes_finite_sources_only():
    build_sink(config(sink="acme.discarding"))
    with pytest.raises(ConfigError, match=r"sink\.type acme\.discarding discards rows"):
        build_sink(config("acme.endless", "acme.discarding"))
    with pytest.raises(ConfigError, match=r"sink\.type null discards rows"):
        build_sink(config("acme.endless", "null"))


def test_their_source_is_shared_among_workers_and_their_printing_sink_is_not():
    made = config(**{"source.values": ("a", "b", "c")})
    assert shares(made, 2) == [
        {"source.values": ("a", "c"), "source.which": 0},
        {"source.values": ("b",), "source.which": 1},
    ]
    with pytest.raises(ConfigError, match="rows of several processes would mix"):
        check(config(sink="acme.printing"))
    check(made)


def test_a_run_of_theirs_is_looked_at_as_one_of_files_is(cli):
    run = ("run", "--json", "--source", "acme.source", "--org", "o", "--set", 'source.values=["x"]')
    said = cli(*run, "--sink", "acme.plain")
    assert said.code == 4, said.err
    assert "half of them are left out" in said.err
    assert "nothing was delivered" in said.err
    assert "lmstream dlq ls ./dead-letters" in said.err
    assert json.loads(said.out)["dead_letters"] == 1
    said = cli(*run, "--sink", "acme.printing")
    assert (said.code, "rows go to standard output already" in said.err) == (2, True)


def test_their_sink_is_checked_before_anything_is_read(cli):
    args = ("--set", "sink.broken=true", "--source", "acme.source", "--sink", "acme.plain", "--org", "o")
    said = cli("run", *args)
    assert (said.code, "their disk is gone" in said.err) == (1, True)
    assert isinstance(build_sink(config()), Checkable)
    assert {check.verdict for check in arithmetic(config())} == {"ok"}


async def test_their_source_is_asked_before_a_start_and_beside_a_run():
    source = build_source(config("acme.asked", "acme.plain"))
    assert Check("their group", "failed", "3 workers", "ask less") in await live(
        config("acme.asked", "acme.plain", **{"run.workers": 3, "dead_letters.root": "dead"})
    )
    runtime = Runtime(source, make(ScriptedSink()), clock=time.monotonic)
    readings = Readings(runtime)
    await ask_ends(readings)
    (found,) = readings.partitions()
    assert (found.committed, found.end, found.records, found.oldest, found.loss) == (3, 8, 5, 1.0, None)
    source.kept.set()
    await ask_retention(readings)
    (found,) = readings.partitions()
    assert found.retention == 5.0
    assert found.loss < 0


async def test_their_sink_gets_a_client_of_the_runtime_in_lambda(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    env = {"ENGINE__ORG_ID": "o", "DEAD_LETTERS__ROOT": "dead", "SINK__TYPE": "acme.queue", "SINK__ENDPOINT_URL": url}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    host = await asyncio.to_thread(from_environment, {f"LMSTREAM_{key}": text for key, text in env.items()})
    [client] = host._clients
    # The real boto3, in a thread of its own, with the settings of the part: nobody listens there.
    with pytest.raises(EndpointConnectionError, match=url):
        await client.send_message(QueueUrl=f"{url}/q", MessageBody="row")
    await asyncio.to_thread(host.close)


def test_abilities_are_had_by_having_their_methods():
    class Able:
        load = certificate_expiry = retention = None
        health = Health(state="suspect", last_error="their broker is away")

        def pause(self, partitions, /): ...

        def standings(self): ...

        def shares(self, count, /): ...

        async def describe(self): ...

        async def questions(self, workers, /): ...

        async def look(self, start, /): ...

        async def retentions(self): ...

    abilities = (
        Pausable,
        Positions,
        Loaded,
        Healthy,
        Certified,
        Shared,
        Describable,
        Askable,
        Looking,
        Retained,
        Outliving,
    )
    for ability in abilities:
        assert isinstance(Able(), ability)
        assert not isinstance(object(), ability)


def test_a_host_is_not_ready_while_a_source_of_theirs_is_not_or_misses_topics():
    source = SimpleNamespace(health=Health(state="suspect", last_error="their broker is away"), certificate_expiry=7.0)
    running = SimpleNamespace(state="running")
    readings = Readings(SimpleNamespace(snapshot=lambda: running, source=source))
    assert readings.ready()[:2] == (False, "the source is suspect: their broker is away")
    assert readings.certificate_expiry() == 7.0
    source.health = Health(state="running", missing=("lm",))
    assert readings.ready()[:2] == (False, "no such topic: lm")
