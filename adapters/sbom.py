"""`python adapters/sbom.py NAME LOCK...`: what is inside a wheel or an image, as CycloneDX 1.5 on standard output.

From lock files, which name every package with its digests: requirements/*.lock of pip, native/crates.lock of Cargo.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)((?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE)
_CRATE: Final = re.compile(r'\[\[package\]\]\nname = "([^"]+)"\nversion = "([^"]+)"\nchecksum = "([0-9a-f]{64})"')


def components(lock: str) -> list[dict[str, Any]]:
    """What a lock names; a crate without a checksum is this repository's own."""
    if "[[package]]" in lock:
        return [_component("cargo", *crate.groups()[:2], [crate[3]]) for crate in _CRATE.finditer(lock)]
    return [
        _component("pypi", name.lower().replace("_", "-"), version, re.findall(r"sha256:([0-9a-f]{64})", rest))
        for name, version, rest in _PINNED.findall(lock)
    ]


def _component(kind: str, name: str, version: str, digests: list[str]) -> dict[str, Any]:
    purl = f"pkg:{kind}/{name}@{version}"
    # A digest for each wheel there is of the version: which one was installed is up to the platform.
    hashes = [{"alg": "SHA-256", "content": each} for each in digests]
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl, "hashes": hashes}


def sbom(name: str, kind: str, version: str, locks: list[str]) -> dict[str, Any]:
    """The document. Raises ValueError for a lock that names nothing."""
    found: dict[str, dict[str, Any]] = {}
    for lock in locks:
        some = components(lock)
        if not some:
            raise ValueError("a lock file names no package")
        found |= {each["purl"]: each for each in some}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": kind, "name": name, "version": version, "bom-ref": name}},
        "components": [found[purl] for purl in sorted(found)],
    }


def main() -> int:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("locks", nargs="+", type=Path)
    parser.add_argument("--kind", choices=("library", "container"), default="library")
    flags = parser.parse_args()
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    made = sbom(
        flags.name, flags.kind, version[1] if version else "", [each.read_text("utf-8") for each in flags.locks]
    )
    json.dump(made, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
