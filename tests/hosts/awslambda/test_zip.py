"""The function's zip: small, the same twice, for its machine, and complete: it runs with nothing else on the path."""

import json
import os
import platform
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import build_zip
import pytest

from hosts.awslambda.conftest import Context, entry, pipe_event
from support.judging import record
from support.repoison import GOOD

MACHINES = {"arm64": 183, "x86_64": 62}
"""e_machine of ELF."""
FUNCTION = """
import json, sys
folder, boto = sys.argv[1:3]
sys.path[:] = [path for path in sys.path if "site-packages" not in path] + [folder, boto]
import lmstream_lambda
class Context:
    aws_request_id = "1"
    def get_remaining_time_in_millis(self): return 30000
answer = lmstream_lambda.handler(json.load(sys.stdin), Context())
outside = [
    name for name, module in sys.modules.items()
    if (getattr(module, "__file__", None) or folder).startswith(sys.prefix + "/lib") and "site-packages" in module.__file__
]
print(json.dumps({"answer": answer, "outside": outside}))
"""


@pytest.fixture(scope="module")
def zips(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    return {name: build_zip.build(name, out) for name in MACHINES}


@pytest.mark.slow  # fetches and packs for both machines
@pytest.mark.parametrize("name", MACHINES)
def test_a_zip_is_small_and_holds_what_is_needed_for_its_machine(zips, name):
    assert zips[name].stat().st_size < 4_000_000
    with zipfile.ZipFile(zips[name]) as content:
        names = content.namelist()
        assert names == sorted(names)
        libraries = [each for each in names if each.endswith(".so")]
        assert libraries
        for each in libraries:
            assert "cpython-313" in each or ".abi3." in each
            head = content.read(each)[:20]
            assert head[:4] == b"\x7fELF"
            assert struct.unpack_from("<H", head, 18)[0] == MACHINES[name], each
    tops = {each.split("/")[0] for each in names if ".dist-info/" not in each} - {"__pycache__"}
    assert tops == {
        *("lmstream_lambda.py", "lmstream", "msgspec", "aws_lambda_powertools", "google", "opentelemetry"),
        *("zstandard", "jmespath", "typing_extensions.py"),
    }
    assert not [each for each in names if "/lab/" in each or "/cli/" in each or each.endswith(".pyi")]
    assert {"lmstream/hosts/awslambda/host.py", "lmstream/codecs/otlp_proto.py"} <= set(names)


@pytest.mark.slow
@pytest.mark.parametrize("name", MACHINES)
def test_with_rules_a_zip_has_regular_expressions_for_its_machine(name, tmp_path):
    made = build_zip.build(name, tmp_path, rules=True)
    assert made.stat().st_size < 5_000_000
    with zipfile.ZipFile(made) as content:
        (library,) = [each for each in content.namelist() if each.startswith("re2/_re2.") and each.endswith(".so")]
        assert "cpython-313" in library
        assert struct.unpack_from("<H", content.read(library)[:20], 18)[0] == MACHINES[name]
        assert "re2/__init__.py" in content.namelist()
    locked = {line.split("==")[0] for line in build_zip.RULES_LOCK.read_text("utf-8").splitlines() if "==" in line}
    assert locked - {line.split("==")[0] for line in build_zip.LOCK.read_text("utf-8").splitlines()} == {"google-re2"}


@pytest.mark.slow
def test_with_rules_the_function_drops_by_a_regular_expression_and_without_it_refuses_to_start(world, tmp_path):
    boto = runtime(tmp_path / "runtime")
    rule = [{"name": "none", "when": {"metric": {"regex": ".+"}}, "drop": True}]
    env = {"PATH": os.environ["PATH"], **world.env(engine__rules=json.dumps(rule))}
    for lock, code in ((build_zip.RULES_LOCK, 0), (build_zip.LOCK, 1)):
        folder = tmp_path / lock.stem
        folder.mkdir()
        build_zip.fill(folder, None, lock)
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", FUNCTION, str(folder), str(boto)],
            input=json.dumps(pipe_event([entry(record(GOOD))])).encode(),
            env=env,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done.stderr.decode()
        assert code == 0 or b"[rules]" in done.stderr
    assert world.rows() == {}


@pytest.mark.slow
def test_every_module_of_a_zip_has_bytecode_that_is_not_held_against_its_source(zips):
    if build_zip.interpreter() is None:
        pytest.skip(f"no python{build_zip.PYTHON} here")
    for path in zips.values():
        with zipfile.ZipFile(path) as content:
            names = set(content.namelist())
            for name in (each for each in names if each.endswith(".py")):
                folder, _, module = name.rpartition("/")
                made = f"{folder}/__pycache__/{module[:-3]}.cpython-313.pyc".lstrip("/")
                assert made in names
                # PEP 552: a hash in place of a time (bit 0), and nobody checks it (bit 1 is off).
                assert struct.unpack_from("<I", content.read(made), 4)[0] == 0b01


def test_a_tree_compiled_twice_has_the_same_bytes_and_names_the_place_where_lambda_runs_it(tmp_path):
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name / "deeper"
        folder.mkdir(parents=True)
        (folder / "module.py").write_text(
            "NAMES = {'a', 'b', 'c'}\ndef known(name): return name in {'d', 'e', 'f', 'g'}\n"
        )
        build_zip.compiled(folder, sys.executable)
        (compiled,) = (folder / "__pycache__").iterdir()
        made.append(compiled.read_bytes())
    assert made[0] == made[1]
    assert f"{build_zip.TASK}/module.py".encode() in made[0]
    assert str(tmp_path).encode() not in made[0]


def test_a_module_that_does_not_compile_ends_the_build_with_its_name(tmp_path):
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(SystemExit, match=r"cannot compile[\s\S]*broken\.py"):
        build_zip.compiled(tmp_path, sys.executable)


def test_an_interpreter_of_another_version_or_that_does_not_run_is_not_taken(tmp_path, monkeypatch):
    fails = tmp_path / "python9.9"
    fails.write_text("#!/bin/sh\nexit 127\n")
    fails.chmod(0o755)
    monkeypatch.setenv("LAMBDA_PYTHON", str(fails))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert build_zip.interpreter("9.9") is None
    mine = "{}.{}".format(*sys.version_info[:2])
    assert build_zip.interpreter(mine) == sys.executable


def test_what_a_first_invocation_does_without_is_imported_when_it_is_needed():
    """Each of these is milliseconds of every cold start."""
    script = "import sys, lmstream.hosts.awslambda.handlers; print(*sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(build_zip.ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "lmstream.delivery.process_batch" in loaded
    late = {"lmstream.lake", "lmstream.cli", "lmstream.lab", "lmstream.storage.parquet", "tomllib", "boto3", "botocore"}
    assert not loaded & (late | {"aws_lambda_powertools", "opentelemetry", "google.protobuf", "pyarrow", "zstandard"})


@pytest.mark.slow
def test_a_zip_built_again_has_the_same_bytes(zips, tmp_path):
    again = build_zip.build("arm64", tmp_path)
    assert again.read_bytes() == zips["arm64"].read_bytes()
    assert again.with_suffix(".sbom.json").read_bytes() == zips["arm64"].with_suffix(".sbom.json").read_bytes()


@pytest.mark.slow
def test_the_sbom_names_what_the_lock_names(zips):
    locked = {line.split("==")[0] for line in build_zip.LOCK.read_text("utf-8").splitlines() if "==" in line}
    found = json.loads(zips["x86_64"].with_suffix(".sbom.json").read_text("utf-8"))
    assert (found["bomFormat"], found["metadata"]["component"]["name"]) == ("CycloneDX", "lmstream-lambda-x86_64")
    assert {each["purl"].removeprefix("pkg:pypi/").split("@")[0] for each in found["components"]} == locked
    assert all(each["version"] for each in found["components"])


def runtime(folder):
    """boto3 and what it needs, as Lambda's runtime brings them."""
    folder.mkdir()
    site = Path(pytest.__file__).parents[1]
    for name in ("boto3", "botocore", "s3transfer", "urllib3", "dateutil", "six.py"):
        (folder / name).symlink_to(site / name)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="the zip is for Linux on x86_64")
def test_the_real_zip_runs_on_the_runtimes_python_where_there_is_one(zips, world, tmp_path):
    python = build_zip.interpreter()
    if python is None:
        pytest.skip(f"no python{build_zip.PYTHON} here")
    with zipfile.ZipFile(zips["x86_64"]) as content:
        content.extractall(tmp_path / "function")
    batch = [record(GOOD), record(b"junk", offset=9)]
    done = subprocess.run(
        [python, "-I", "-S", "-c", FUNCTION, str(tmp_path / "function"), str(runtime(tmp_path / "runtime"))],
        input=json.dumps(pipe_event(map(entry, batch))).encode(),
        env={"PATH": os.environ["PATH"], **world.env()},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout.splitlines()[-1]) == {"answer": {"records": 2}, "outside": []}
    assert [each.code for each in world.letters().values()] == ["LMS-1002"]
    assert len(world.rows()) == 1


@pytest.mark.slow
def test_the_same_content_for_this_interpreter_handles_events_with_nothing_else_on_the_path(world, tmp_path):
    folder, boto = tmp_path / "function", runtime(tmp_path / "runtime")
    folder.mkdir()
    build_zip.fill(folder, None)
    protobuf = Path(__file__).parents[2] / "corpus/golden/all_kinds/bundle.pb"
    batch = [record(GOOD), record(protobuf.read_bytes(), offset=8), record(b"junk", offset=9)]
    host = world.host()  # its settings are right: the same ones for the function
    assert host.handle(pipe_event([entry(batch[0])]), Context()) == {"records": 1}
    env = {
        "PATH": os.environ["PATH"],
        **world.env(),
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", FUNCTION, str(folder), str(boto)],
        input=json.dumps(pipe_event(map(entry, batch))).encode(),
        env=env,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == {"answer": {"records": 3}, "outside": []}
    assert [each.code for each in world.letters().values()] == ["LMS-1002"]
    assert len({row.split(b'"rowId":"')[1][:32] for row in world.rows().values()}) == 2
