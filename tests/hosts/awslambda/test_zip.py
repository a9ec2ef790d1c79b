"""The function's zip: small, the same twice, for its machine, and complete: it runs with nothing else on the path."""

import json
import os
import platform
import shutil
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
    assert zips[name].stat().st_size < 3_000_000
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
    tops = {each.split("/")[0] for each in names if ".dist-info/" not in each}
    assert tops == {
        *("lmstream_lambda.py", "lmstream", "msgspec", "aws_lambda_powertools", "google", "opentelemetry"),
        *("zstandard", "jmespath", "typing_extensions.py"),
    }
    assert not [each for each in names if "/lab/" in each or "/cli/" in each or each.endswith((".pyc", ".pyi"))]
    assert {"lmstream/hosts/awslambda/host.py", "lmstream/codecs/otlp_proto.py"} <= set(names)


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


def python313():
    """An interpreter of the runtime's version, if this machine has one."""
    found = shutil.which(f"python{build_zip.PYTHON}")
    if found and not subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        return found
    return None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="the zip is for Linux on x86_64")
def test_the_real_zip_runs_on_the_runtimes_python_where_there_is_one(zips, world, tmp_path):
    python = python313()
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
