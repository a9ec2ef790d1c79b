"""What tests of the command line share: run it in this process, and small folders of bundles."""

from itertools import islice
from typing import NamedTuple

import pytest

from lmstream.cli import main
from lmstream.lab.generator import Generator


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys, monkeypatch):
    """Run `lmstream ARGS` in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LMSTREAM_ENDPOINTS__ADDRESS", "off")  # the usual port is another run's on a busy machine
    for name in ("LMSTREAM_DEBUG", "LMSTREAM_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def run(*args):
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture
def bundles(tmp_path):
    """A folder of generated bundles, one a file, and what must become of them."""

    def make(count=5, **options):
        folder = tmp_path / "bundles"
        folder.mkdir(exist_ok=True)
        made = list(islice(Generator(**({"instances": 2} | options)).bundles(), count))
        for number, bundle in enumerate(made):
            (folder / f"{number:03d}.json").write_bytes(bundle.payload)
        return folder, made

    return make
