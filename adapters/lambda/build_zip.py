"""`python adapters/lambda/build_zip.py`: the function's zip for each architecture, and an SBOM beside it. No Docker.

Wheels come by pip (or uv, where it is) for the platform named, each checked against requirements/lambda.lock; with
`--rules` also that of google-re2, which rules with regular expressions need (requirements/lambda-rules.lock). Modules
are compiled by an interpreter of Lambda's version, where one is found. The same tree and interpreter give the same
bytes: entries sorted, one fixed time, bytecode that names no time.
"""

import argparse
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
LOCK: Final = ROOT / "requirements" / "lambda.lock"
RULES_LOCK: Final = ROOT / "requirements" / "lambda-rules.lock"
"""The same with the extra [rules]."""
PYTHON: Final = "3.13"
MACHINES: Final = {"arm64": "aarch64", "x86_64": "x86_64"}
"""Lambda's name of an architecture, and the wheels'."""
PLATFORMS: Final = {LOCK: ("manylinux2014", "manylinux_2_17"), RULES_LOCK: ("manylinux2014", "manylinux_2_28")}
"""Of wheels. google-re2 has them for glibc 2.28 alone: python3.13 of Lambda runs on Amazon Linux 2023, glibc 2.34
(docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html)."""
EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first a zip can say

# Python ignores what is not there, and a cold start reads what is: tests import the rest with nothing else on the path.
TASK: Final = "/var/task"
"""Where Lambda unpacks it, and what tracebacks name."""

LEFT_OUT: Final = re.compile(
    r"(^|/)(__pycache__|tests?|bin)/|(^|/)\.[^/]*$"
    r"|\.(pyi|pyc|typed|exe|proto)$"
    r"|^[^/]+\.dist-info/(?!licenses/|LICEN[CS]E|NOTICE|METADATA$)"
    r"|^lmstream/(cli|lab|hosts/container|verification|deployment)/|^lmstream/sources/(?!__init__\.py$)|^lmstream/kafka/(?!(__init__|lambda_events)\.py$)"
    r"|^lmstream/(__main__|fanout|ledger|pipeline|dead_letters/(?:filters|firehose_failures|lambda_failures|letters_kafka|replay|store)|config/questions|storage/line_files|storage/objects|observability/(?!__init__|settings|metrics_catalogue)\w+)\.py$"
    r"|^lmstream/sinks/_firehose_client\.py$"
    r"|^aws_lambda_powertools/event_handler/"
    r"|^aws_lambda_powertools/utilities/(?!__init__\.py$|jmespath_utils/)"
    r"|^opentelemetry/proto/(?!__init__\.py$|metrics/|collector/(__init__\.py$|metrics/)|common/|resource/)"
    r"|^zstandard/(_cffi\.|backend_cffi\.py$)"
    r"|_pb2_grpc\.py$"
    r"|^google/protobuf/(compiler|util|testdata)/"
)


def fill(folder: Path, machine: str | None, lock: Path = LOCK) -> None:
    """Put our modules and the locked wheels into a folder: for a machine, or for this interpreter."""
    _install(folder, machine, lock)
    # The native part in the sources is this machine's. That of another lies where native/build.py --machine puts it.
    shutil.copytree(ROOT / "src" / "lmstream", folder / "lmstream", ignore=shutil.ignore_patterns("_native.*"))
    own = ROOT / "src" / "lmstream" if machine is None else ROOT / "dist" / "native" / machine
    if (native := own / "_native.abi3.so").exists():
        shutil.copy(native, folder / "lmstream")
    shutil.copy(ROOT / "adapters" / "lambda" / "lmstream_lambda.py", folder)
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif LEFT_OUT.search(name):
            path.unlink()
        elif path.suffix == ".so" and b".debug_info\0" in (whole := path.read_bytes()):
            path.write_bytes(without_debug(whole))


def interpreter(version: str = PYTHON) -> str | None:
    """An interpreter of that version: the one in LAMBDA_PYTHON, this one, one on the path, or pyenv's newest."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = [os.environ.get("LAMBDA_PYTHON"), sys.executable, shutil.which(f"python{version}")]
    found += map(str, sorted(pyenv.glob(f"{version}.*/bin/python{version}"), key=lambda each: each.parts, reverse=True))
    told = "import sys; sys.exit('%d.%d' % sys.version_info[:2] != sys.argv[1])"
    for each in filter(None, found):
        # pyenv's python3.13 on the path is there, and fails, where that version is not switched on.
        if not subprocess.run([each, "-c", told, version], check=False, capture_output=True).returncode:  # noqa: S603 - ours
            return each
    return None


def compiled(folder: Path, python: str) -> None:
    """Put its bytecode beside every module. /var/task cannot be written to, so that every cold start would compile all
    that it imports, 70 ms and more. Nothing changes there either: the bytecode is not held against its source, and
    names no time. With one seed for hashes, sets of constants lie in one order."""
    mode = ("--invalidation-mode", "unchecked-hash")
    command = [python, "-S", "-m", "compileall", "-q", *mode, "-s", str(folder), "-p", TASK, str(folder)]
    done = subprocess.run(command, env={"PYTHONHASHSEED": "0"}, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        sys.exit(f"{python} cannot compile the modules of the zip: {(done.stdout + done.stderr)[-2000:]}")


def _install(folder: Path, machine: str | None, lock: Path) -> None:
    wanted = ["--target", str(folder), "--require-hashes", "--no-deps", "-r", str(lock)]
    uv = os.environ.get("UV", shutil.which("uv") or "")  # make passes its own, which may be none
    if uv:
        command = [uv, "pip", "install", "--quiet", "--link-mode", "copy", "--only-binary", ":all:", *wanted]
        platform = f"{machine}-{PLATFORMS[lock][0 if lock == LOCK else -1]}"
        command += ["--python-platform", platform, "--python-version", PYTHON] if machine else []
    else:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--only-binary=:all:", "--no-compile", *wanted]
        if machine:
            command += ["--implementation", "cp", "--python-version", PYTHON]
            command += [flag for abi in ("cp313", "abi3", "none") for flag in ("--abi", abi)]
            command += [flag for glibc in PLATFORMS[lock] for flag in ("--platform", f"{glibc}_{machine}")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - our own arguments
    if done.returncode and "No module named pip" in done.stderr:
        sys.exit(
            "this environment was made with uv, which is gone, and has no pip: `make clean`, then again, or install uv"
        )
    if done.returncode:
        sys.exit(
            f"the wheels of {lock.name} for {machine or 'this machine'} cannot be had: {done.stderr.strip()[-2000:]}"
        )


def without_debug(library: bytes) -> bytes:
    """What a loader maps of a 64-bit little-endian ELF file. Debug information stays out (nine tenths of zstandard),
    and so does the table of sections, which no loader reads (System V ABI, "Object Files")."""
    headers, size, count = *struct.unpack_from("<Q", library, 0x20), *struct.unpack_from("<HH", library, 0x36)
    segments = [struct.unpack_from("<QQQQ", library, headers + at * size + 8) for at in range(count)]
    end = max(offset + filled for offset, _, _, filled in segments)
    head = bytearray(library[:0x40])
    struct.pack_into("<Q", head, 0x28, 0)  # e_shoff
    struct.pack_into("<HH", head, 0x3C, 0, 0)  # e_shnum, e_shstrndx
    return bytes(head) + library[0x40:end]


def pack(folder: Path, target: Path) -> None:
    """Zip a folder, the same bytes for the same files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever it is built
            entry.external_attr = (0o100755 if path.suffix == ".so" else 0o100644) << 16
            out.writestr(entry, path.read_bytes(), compresslevel=9)


def sbom(folder: Path, name: str) -> dict[str, Any]:
    """What is inside, as CycloneDX 1.5: from the wheels' own metadata. Their hashes are in the lock."""
    components = []
    for info in sorted(folder.glob("*.dist-info")):
        of = metadata.PathDistribution(info)
        package, version = of.metadata["Name"], of.version
        licence = of.metadata.get("License-Expression") or of.metadata.get("License") or ""
        components.append(
            {
                "type": "library",
                "name": package,
                "version": version,
                "purl": f"pkg:pypi/{package.lower().replace('_', '-')}@{version}",
                "bom-ref": f"{package}@{version}",
                "licenses": [{"license": {"name": licence.splitlines()[0]}}] if licence else [],
            }
        )
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    component = {"type": "application", "name": name, "version": version[1] if version else ""}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component},
        "components": components,
    }


def build(architecture: str, out: Path, *, rules: bool = False) -> Path:
    """Make one zip and its SBOM; answers the zip. With `rules` it has the extra of that name."""
    out.mkdir(parents=True, exist_ok=True)
    name = f"lmstream-lambda-{architecture}"
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        fill(folder, MACHINES[architecture], RULES_LOCK if rules else LOCK)
        if (python := interpreter()) is not None:
            compiled(folder, python)
        text = json.dumps(sbom(folder, name), indent=1, sort_keys=True) + "\n"
        (out / f"{name}.sbom.json").write_text(text, encoding="utf-8")
        pack(folder, out / f"{name}.zip")
    return out / f"{name}.zip"


def main() -> None:
    """Build what was asked for; say how large it is, and what it lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*", choices=[*MACHINES, []], help="default: all")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--rules", action="store_true", help="with google-re2, for rules with regular expressions")
    flags = parser.parse_args()
    if interpreter() is None:
        sys.stderr.write(
            f"no python{PYTHON} here: the zip carries no bytecode, and each cold start compiles its modules, 70 ms and "
            f"more. Fix: install Python {PYTHON}, or name one in LAMBDA_PYTHON\n"
        )
    with ThreadPoolExecutor() as side_by_side:  # most of the time is pip's
        built = list(
            side_by_side.map(partial(build, out=flags.out, rules=flags.rules), flags.architectures or MACHINES)
        )
    for made in built:
        with zipfile.ZipFile(made) as entries:
            unpacked = sum(entry.file_size for entry in entries.infolist())
        print(f"{made.name}: {made.stat().st_size / 1e6:.2f} MB, {unpacked / 1e6:.2f} MB unpacked")  # noqa: T201


if __name__ == "__main__":
    main()
