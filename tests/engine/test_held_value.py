"""Letters of very large values: small where there is nothing in them, bounded in any case, and replayed as they were."""

import resource
import tracemalloc
from hashlib import sha256

import msgspec
import pytest

from lmstream.dead_letters import form
from lmstream.dead_letters.letters import Letters
from lmstream.dead_letters.letters import Settings as Folder
from lmstream.delivery.dead_letter import DETAIL, LARGEST, bound, letter
from lmstream.delivery.in_flight import InFlight, Submission
from lmstream.engine import Engine
from lmstream.engine.held_value import PLAIN, digest, held_as
from lmstream.errors import DecodeError
from lmstream.lab.generator import Generator
from lmstream.model import DeadLetter
from lmstream.settings import MIB, Limits, Settings
from support.doubles import nobody, record

BUNDLE = next(Generator(instances=2).bundles()).payload
WIDE = Settings(org_id="acme", limits=Limits(record_bytes=40 * MIB))


def letter_of(value, why=("limits.size", "too large"), **more):
    """The letter of a record that is refused as a whole."""
    flight = InFlight()
    each = flight.track(record(5, value, **more), Submission(nobody))
    each.why = why
    return letter(each, bound(Limits()))


def noise(size):
    return sha256(b"seed").digest() * 0 + b"".join(sha256(b"%d" % n).digest() for n in range(size // 32))


async def test_a_letter_never_holds_400_mb_of_nothing(tmp_path):
    value = bytes(400_000_000)
    tracemalloc.start()
    made = letter_of(value)
    line = form.encode(made)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(line) < 4_000_000
    assert peak < 20_000_000  # beside the value, which was there
    assert (made.held, made.size, made.sha256) == (400_000_000, 400_000_000, sha256(value).hexdigest())
    sink = Letters(Folder(root=str(tmp_path)))
    await sink.write([made])
    await sink.close()
    (path,) = tmp_path.rglob("*.json")
    assert path.stat().st_size < 4_000_000
    del value
    # A replay under the same limits is refused with the same words, and inflates nothing.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = form.decode(path.read_bytes())
    with pytest.raises(DecodeError, match=r"limits\.size") as refused:
        Engine(Settings(org_id="acme")).fan_out(found.record())
    assert "400,000,000 bytes, the limit for a record is 8,388,608" in str(refused.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    again = letter_of(found.value, held=found.held)  # and a letter of the replay is the same letter
    assert (again.value, again.held, again.sha256) == (found.value, found.held, found.sha256)


def test_a_large_bundle_comes_back_byte_for_byte_once_the_limit_lets_it():
    value = BUNDLE + b" " * (20 * MIB)
    made = letter_of(value)
    assert 0 < len(made.value) < 100_000
    assert made.beginning(100) == value[:100]
    back = msgspec.json.decode(form.encode(made), type=DeadLetter)
    engine = Engine(WIDE)
    assert engine.fan_out(back.record()).ndjson() == engine.fan_out(record(5, value)).ndjson()
    with pytest.raises(DecodeError, match=r"limits\.size"):
        Engine(Settings(org_id="acme")).fan_out(back.record())


@pytest.mark.parametrize("size", [0, 100, PLAIN])
def test_what_the_engine_takes_anyway_is_held_as_it_is(size):
    value = b"a" * size
    made = letter_of(value)
    assert (made.value, made.held, made.size) == (value, 0, size)
    assert b'"held"' not in form.encode(made)


def test_what_does_not_shrink_is_held_as_it_is_and_left_out_beyond_the_bound():
    value = noise(PLAIN + 32)
    assert held_as(value) == (value, 0)
    assert letter_of(value).value == value
    large = noise(32 * MIB) * 2
    made = letter_of(large)
    assert made.value is None
    assert (made.held, made.sha256) == (0, sha256(large).hexdigest())
    assert len(form.encode(made)) < 100_000


def test_the_bound_covers_every_record_that_the_engine_reads():
    for limits in (Limits(), Limits(record_bytes=200 * MIB), Limits(points=5_000_000)):
        assert bound(limits) >= form.largest(limits)
        assert bound(limits) >= LARGEST


@pytest.mark.parametrize("value", [b"", b"no gzip", held_as(bytes(PLAIN + 1))[0][:-20], held_as(bytes(PLAIN + 2))[0]])
def test_a_letter_that_lies_about_what_it_holds_is_refused(value):
    lies = DeadLetter(topic="t", partition=0, offset=5, value=value, held=PLAIN + 1, reason="limits.size")
    assert isinstance(lies.beginning(10), bytes)
    with pytest.raises(DecodeError, match=r"decode\.gzip"):
        Engine(WIDE).fan_out(lies.record())
    assert len(digest(value, PLAIN + 1)) == 64


def test_words_of_a_service_are_cut():
    assert len(letter_of(b"x", why=("sink.permanent", "a" * 1_000_000)).detail) == DETAIL
