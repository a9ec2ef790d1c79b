"""Build the native part and put it where Python finds it: `python native/build.py`, or `make native`.

Needs cargo. `--machine aarch64` (or x86_64) builds for any Linux of that machine with glibc 2.17 or newer, into
dist/native/MACHINE, for wheels and Lambda zips; that needs cargo-zigbuild with ziglang and Rust's library of that
machine. crates.lock is Cargo's lock file without the addresses of a registry: names, versions and checksums are held,
and where crates come from is the setting of whoever builds.
"""

import argparse
import os
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
    # Of a module CPython's own symbols are those of the process that loads it, not of a library that it brings along.
    env = os.environ | {"PYO3_BUILD_EXTENSION_MODULE": "1"}
    if platform.system() == "Darwin":
        env["RUSTFLAGS"] = "-C link-arg=-undefined -C link-arg=dynamic_lookup"
    subprocess.run(["cargo", *arguments], cwd=HERE, check=True, env=env)


def main() -> int:
    """Build; `--pin` resolves the crates anew and writes the pins."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machine", choices=("x86_64", "aarch64"))
    parser.add_argument("--pin", action="store_true")
    flags = parser.parse_args()
    if shutil.which("cargo") is None:
        print(
            "no cargo here: lmstream runs without its native part, slower. Fix: install Rust 1.85 or newer",
            file=sys.stderr,
        )
        return 2
    lock = HERE / "Cargo.lock"
    lock.unlink(missing_ok=True)
    cargo("generate-lockfile", "--quiet")
    if flags.pin:
        LOCK.write_text(stripped(lock.read_text("utf-8")), "utf-8")
    else:
        lock.write_text(restored(LOCK.read_text("utf-8"), lock.read_text("utf-8")), "utf-8")
    release = ["build", "--release", "--locked", "--quiet"]
    if flags.machine is None:
        cargo(*release)
        built, made = HERE / "target/release" / LIBRARY, MADE
    else:
        target = f"{flags.machine}-unknown-linux-gnu"
        os.environ["PYO3_NO_PYTHON"] = "1"  # the stable ABI is the same for all
        cargo("zigbuild", *release[1:], "--target", f"{target}.2.17")
        built = HERE / "target" / target / "release/lib_native.so"
        made = HERE.parent / "dist/native" / flags.machine / MADE.name
        made.parent.mkdir(parents=True, exist_ok=True)
    # A process that runs has the old file mapped: a new one takes its name.
    fresh = made.with_suffix(".new")
    shutil.copyfile(built, fresh)
    fresh.replace(made)
    print(f"built {made.relative_to(HERE.parent)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
