"""The conformance suite of transforms: what lmstream.interfaces.Transform promises, of your bundles and of odd ones."""

import base64
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Final

import msgspec

from lmstream.engine import Engine
from lmstream.engine.own_reasons import REASONS_OF_ITS_OWN, fits
from lmstream.errors import REASONS, DecodeError, PluginError
from lmstream.interfaces import Transform
from lmstream.model import RowEvent
from lmstream.settings import Settings
from lmstream.testing import samples
from lmstream.testing.suite import PATIENCE, Suite

_MODULE: Final = "lmstream_transform_under_test"
_ELSEWHERE: Final = (("0", "UTC"), ("1", "Asia/Kathmandu"), ("2", "America/St_Johns"), ("3", "Pacific/Kiritimati"))
"""Hash seeds and time zones of the processes that are asked."""
_CHILD: Final = "import sys; from lmstream.testing.transforms import told; told(*sys.argv[1:])"


class TransformConformance(Suite):
    """Subclass it as `TestMyTransform`, at the top of its module, and write `make` and `samples`; pytest does the
    rest."""

    settings: ClassVar[Settings] = Settings(org_id="acme")
    """Of the engine, with its rules; `transform` is put in."""

    def make(self, settings: Settings) -> Transform:
        """A transform of yours, as your module's `Transform` is called."""
        raise NotImplementedError("write make(settings): your module's Transform(settings)")

    def samples(self) -> Sequence[bytes]:
        """Bundles as they are in the topic. The more of what your transform is for is in them, the more is tried."""
        raise NotImplementedError("write samples(): bundles, as bytes")

    def test_rows_stay_rows_of_the_same_points(self) -> None:
        """No id twice, none that is new, nothing changed but what may be: lmstream.interfaces.MAY_CHANGE."""
        engine = self._engine()
        for payload in self._samples():
            try:
                engine.fan_out(samples.record(0, payload))
            except PluginError as error:
                raise AssertionError(f"{_shown(payload)}: the transform {error.what}") from error
            except DecodeError as error:
                raise AssertionError(f"{_shown(payload)} is a sample, and is refused: {error}") from error

    def test_any_rows_are_taken_or_refused_by_a_decode_error(self) -> None:
        """One strange record must not stop a run: hostile texts, empty maps, numbers at their bounds, every type."""
        reasons: set[str] = set()
        engine = self._engine(lambda settings: _Heard(self.make(settings), reasons))
        for payload in samples.odd_bundles():
            try:
                engine.fan_out(samples.record(0, payload))
            except DecodeError:
                pass
            except PluginError as error:
                raise AssertionError(f"{_shown(payload)}: the transform {error.what}") from error
        odd = [each for each in reasons if each not in REASONS and not fits(each)]
        assert not odd, f"a reason looks like `name.word`, in lower case and short, not {odd[0]!r}"
        assert len(reasons) < REASONS_OF_ITS_OWN, f"{len(reasons)} reasons: put what varies into the words"

    def test_the_same_bundle_gives_the_same_rows(self) -> None:
        """Whatever came before: a record is read again after a crash, and in a replay."""
        every = [*self._samples(), *samples.odd_bundles()]
        first = {payload: outcome(self._engine(), payload) for payload in every}
        engine = self._engine()
        for when, order in (("after others", every), ("a second time, in another order", every[::-1])):
            for payload in order:
                assert outcome(engine, payload) == first[payload], f"{_shown(payload)}: other rows {when}"

    def test_other_processes_give_the_same_rows(self) -> None:
        """Other hash seeds, another time zone, another folder, a moment later: what a set's order, the local time or a
        file beside it decides differs there."""
        every = [*self._samples(), *samples.odd_bundles()]
        here = [outcome(self._engine(), payload) for payload in every]
        file, name = inspect.getfile(type(self)), type(self).__qualname__
        given = json.dumps([base64.b64encode(payload).decode() for payload in every])
        path = os.pathsep.join(str(Path(each).resolve()) for each in sys.path)
        for seed, zone in _ELSEWHERE:
            env = os.environ | {"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": path}
            with tempfile.TemporaryDirectory(prefix="lmstream-") as folder:
                done = subprocess.run(  # noqa: S603 - this Python
                    [sys.executable, "-c", _CHILD, str(Path(file).resolve()), name],
                    input=given, env=env, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False,
                )  # fmt: skip
            assert done.returncode == 0, f"another process could not run {name} of {file}: {done.stderr[-2000:]}"
            for payload, one, other in zip(every, here, json.loads(done.stdout), strict=True):
                assert one == other, f"{_shown(payload)}: other rows with PYTHONHASHSEED={seed} and TZ={zone}"

    def test_samples_are_of_what_it_is_for(self) -> None:
        """Of bundles of which nothing changes, the other checks say little."""
        plain, engine = Engine(self.settings), self._engine()
        assert any(outcome(plain, each) != outcome(engine, each) for each in self._samples()), (
            "the transform changes no row of samples(): add a bundle that it is for"
        )

    # What the checks use

    def _samples(self) -> Sequence[bytes]:
        found = self.samples()
        assert found, "samples() is empty: give at least one bundle"
        plain = Engine(self.settings)
        for payload in found:
            assert plain.fan_out(samples.record(0, payload)).rows, f"{_shown(payload)} gives no row to transform"
        return found

    def _engine(self, make: Callable[[Settings], Transform] | None = None) -> Engine:
        module = ModuleType(_MODULE)
        module.Transform = make or self.make  # type: ignore[attr-defined]
        sys.modules[_MODULE] = module
        try:
            return Engine(msgspec.structs.replace(self.settings, transform=_MODULE))
        finally:
            del sys.modules[_MODULE]


class _Heard:
    """A transform whose reasons are heard before they are counted."""

    def __init__(self, transform: Transform, reasons: set[str]) -> None:
        self._transform, self._reasons = transform, reasons

    def apply(self, rows: Sequence[RowEvent], /) -> Iterable[RowEvent]:
        try:
            return list(self._transform.apply(rows))
        except DecodeError as error:
            self._reasons.add(error.reason)
            raise


def outcome(engine: Engine, payload: bytes) -> str:
    """What a bundle becomes, short enough to be compared."""
    try:
        out = engine.fan_out(samples.record(0, payload))
    except DecodeError as error:
        return f"{error.reason} {error.detail}"
    except PluginError as error:
        return error.what
    counts = sorted(out.dropped.items()), sorted(out.skipped.items()), out.rejected
    return f"{blake2b(out.ndjson(), digest_size=16).hexdigest()} {counts}"


def told(file: str, name: str) -> None:
    """In another process: the outcome of each bundle that comes, by the suite `name` in `file`."""
    spec = spec_from_file_location("lmstream_suite_under_test", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    suite = getattr(module, name, None)
    if not isinstance(suite, type) or not issubclass(suite, TransformConformance):
        sys.exit(f"{name} is not at the top of {file}")
    with suite.anew() as one:
        found = [outcome(one._engine(), base64.b64decode(each)) for each in json.load(sys.stdin)]  # noqa: SLF001 - of this module
    sys.stdout.write(json.dumps(found))


def _shown(payload: bytes) -> str:
    return repr(payload if len(payload) <= 80 else payload[:77] + b"...")
