"""Build the native part and put it where Python finds it: `python native/build.py`, or `make native`.

Needs cargo. crates.lock is Cargo's lock file without the addresses of a registry: names, versions and checksums are
held, and where the crates come from is the setting of whoever builds.
"""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LOCK = HERE / "crates.lock"
MADE = HERE.parent / "src/lmstream/_native.abi3.so"
LIBRARY = "lib_native.dylib" if platform.system() == "Darwin" else "lib_native.so"
_CRATE = re.compile(r'(\[\[package\]\]\nname = "[^"]+"\nversion = "[^"]+"\n)(checksum = )')
_SOURCE = re.compile(r"^source = .*\n", re.MULTILINE)


def restored(pinned: str, resolved: str) -> str:
    """Cargo's lock of these pins: each crate is from the registry that Cargo resolved by. Raises ValueError without
    one."""
    sources = set(_SOURCE.findall(resolved))
    if len(sources) != 1:
        raise ValueError(f"crates of {len(sources)} registries, not of one")
    return _CRATE.sub(lambda found: f"{found[1]}{min(sources)}{found[2]}", pinned)


def stripped(lock: str) -> str:
    """Cargo's lock without addresses."""
    return _SOURCE.sub("", lock)


def cargo(*arguments: str) -> None:
    """Run it here. Raises CalledProcessError."""
    subprocess.run(["cargo", *arguments], cwd=HERE, check=True)


def main() -> int:
    """Build; `--pin` resolves the crates anew and writes the pins."""
    if shutil.which("cargo") is None:
        print(
            "no cargo here: lmstream runs without its native part, slower. Fix: install Rust 1.85 or newer",
            file=sys.stderr,
        )
        return 2
    lock = HERE / "Cargo.lock"
    lock.unlink(missing_ok=True)
    cargo("generate-lockfile", "--quiet")
    if "--pin" in sys.argv[1:]:
        LOCK.write_text(stripped(lock.read_text("utf-8")), "utf-8")
    else:
        lock.write_text(restored(LOCK.read_text("utf-8"), lock.read_text("utf-8")), "utf-8")
    cargo("build", "--release", "--locked", "--quiet")
    # A process that runs has the old file mapped: a new one takes its name.
    fresh = MADE.with_suffix(".new")
    shutil.copyfile(HERE / "target/release" / LIBRARY, fresh)
    fresh.replace(MADE)
    print(f"built {MADE.relative_to(HERE.parent)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
