"""What our own sources and sinks can do, a third party's can: nothing hangs on a name."""

import json
import sys
from types import SimpleNamespace

import pytest

from lmstream.abilities import (
    Certified,
    Checkable,
    Describable,
    Health,
    Healthy,
    Loaded,
    Pausable,
    Positions,
    Shared,
    Traits,
)
from lmstream.config import build_letters, build_sink, build_source, letters_part, load
from lmstream.config.validation import arithmetic
from lmstream.errors import ConfigError
from lmstream.hosts.container.workers import check, shares
from lmstream.observability.readings import Readings

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

TRAITS = Traits(finite=True, takes=("limits",))

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
    (package / "endless.py").write_text(SOURCE.replace("finite=True, ", ""))
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
    assert load(env={}, overrides={"sink.type": "memory"}).need("sink").traits == Traits()


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


def test_abilities_are_had_by_having_their_methods():
    class Able:
        load = certificate_expiry = None
        health = Health(state="suspect", last_error="their broker is away")

        def pause(self, partitions, /): ...

        def standings(self): ...

        def shares(self, count, /): ...

        async def describe(self): ...

    for ability in (Pausable, Positions, Loaded, Healthy, Certified, Shared, Describable):
        assert isinstance(Able(), ability)
        assert not isinstance(object(), ability)


def test_a_host_is_not_ready_while_a_source_of_theirs_is_not_or_misses_topics():
    source = SimpleNamespace(health=Health(state="suspect", last_error="their broker is away"), certificate_expiry=7.0)
    running = SimpleNamespace(state="running")
    readings = Readings(SimpleNamespace(snapshot=lambda: running, source=source))
    assert readings.ready() == (False, "the source is suspect: their broker is away")
    assert readings.certificate_expiry() == 7.0
    source.health = Health(state="running", missing=("lm",))
    assert readings.ready() == (False, "no such topic: lm")
