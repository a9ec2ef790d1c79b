"""What every benchmark is measured with: an allocator that keeps its memory, an interpreter that says its build."""

import os
import platform
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import lmstream
from lmstream.native import SWITCH, engine

THRESHOLDS: Final = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""Bytes up to which glibc keeps freed memory, and takes blocks from its heap (man 3 mallopt). With its own thresholds
it gives memory back between two bundles, the kernel clears the same pages again, and a figure depends on which size was
measured first: the orjson baseline moves by a quarter."""
_FLAGS: Final = ("CONFIG_ARGS", "PY_CORE_CFLAGS", "PY_CORE_LDFLAGS", "PY_CFLAGS_NODIST", "PY_LDFLAGS_NODIST")


def settle() -> None:
    """Start this program once more with THRESHOLDS, unless it has them. Its children inherit them."""
    if sys.platform == "linux" and any(os.environ.get(name) is None for name in THRESHOLDS):
        os.environ.update({name: os.environ.get(name, bytes_) for name, bytes_ in THRESHOLDS.items()})
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def malloc() -> str:
    """The thresholds of this process, in words."""
    found = {name: os.environ.get(name) for name in THRESHOLDS}
    if sys.platform != "linux" or None in found.values():
        return "malloc as it comes"
    trim, mapped = (int(bytes_ or 0) >> 20 for bytes_ in found.values())
    return f"malloc trims above {trim} MiB, maps above {mapped} MiB"


def build() -> str:
    """How the interpreter was built, as far as it tells: needs are set for one with PGO."""
    flags = " ".join(str(sysconfig.get_config_var(name) or "") for name in _FLAGS)
    pgo = "--enable-optimizations" in flags or "-fprofile-use" in flags
    lto = "--with-lto" in flags or "-flto" in flags
    if pgo or lto:
        return f"{'PGO' if pgo else 'no PGO'}, {'LTO' if lto else 'no LTO'}"
    if _is_debians():
        return "PGO and LTO, as Debian builds it"
    return "neither PGO nor LTO"


def _is_debians() -> bool:
    """Debian's packages are built with both, and sysconfig does not tell (Debian bugs 934771, 934812)."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return False
    return "debian" in f"{system.get('ID', '')} {system.get('ID_LIKE', '')}" and sys.base_prefix == "/usr"


def machine() -> dict[str, Any]:
    """What figures were taken on."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "lmstream": lmstream.__version__,
        "engine": engine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "build": build(),
        "malloc": malloc(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": model,
        "cpus": os.cpu_count(),
        "packages": {name: version(name) for name in ("msgspec", "orjson", "protobuf")},
    }


def conditions(on: dict[str, Any]) -> str:
    """The same as one line."""
    return (
        f"lmstream {on['lmstream']} ({on['engine']} engine), {on['python']} ({on['build']}), {on['malloc']}; "
        f"{on['cpus']} x {on['cpu']}, {on['system']}"
    )


def engines() -> tuple[str, ...]:
    """Those that can be measured here, ours as it is installed first."""
    return ("native", "plain") if engine() == "native" else ("plain",)


@contextmanager
def switched(to: str) -> Iterator[None]:
    """Let engines made meanwhile, here and in children, be "plain"; or "native", where the native part is installed."""
    before = os.environ.pop(SWITCH, None)
    if to == "plain":
        os.environ[SWITCH] = "off"
    try:
        yield
    finally:
        os.environ.pop(SWITCH, None)
        if before is not None:
            os.environ[SWITCH] = before


def load() -> str:
    """The load average of the machine now, for beside a figure of wall time."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
