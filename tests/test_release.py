"""A release: workflows that GitHub reads, a wheel whose links lead somewhere, SBOMs of what the locks name."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
RELEASE = (ROOT / ".github/workflows/release.yml").read_text("utf-8")
URL = "https://git.example/acme/lmstream"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_one_by_its_schema(path):
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def built(folder, **env):
    """The metadata of a wheel, and the names in it. Built elsewhere, so that nobody's native part comes along."""
    source = folder / "source"
    for each in ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / each, source)
    left_out = shutil.ignore_patterns("__pycache__", "_native.*")
    shutil.copytree(ROOT / "src", source / "src", dirs_exist_ok=True, ignore=left_out)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LMSTREAM_", "PYTHONPATH"))}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=source, env=clean | env, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as inside:
        (name,) = [each for each in inside.namelist() if each.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(inside.read(name)), set(inside.namelist())


def test_a_wheel_of_a_release_leads_into_the_repository_at_its_tag(tmp_path):
    metadata, names = built(tmp_path, LMSTREAM_URL=URL)
    addresses = dict(each.split(", ") for each in metadata.get_all("Project-URL"))
    assert set(addresses) == {"Source", "Documentation", "Changelog", "Issues"}
    assert all(each.startswith(URL) for each in addresses.values())
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Author"] == "The lmstream maintainers"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    links = re.findall(r"\]\(([^)\s]+)\)", metadata.get_payload())
    at = f"v{metadata['Version']}"
    assert len(links) > 20
    for link in links:
        assert link.startswith(("https://", "#")), link
        into = re.fullmatch(rf"{re.escape(URL)}/(?:blob|raw)/{re.escape(at)}/([^#]+)(?:#.*)?", link)
        assert into is None or (ROOT / into[1]).exists(), link
    assert (
        f"![lmstream run before, in and after an outage of Firehose]({URL}/raw/{at}/docs/images/run.svg)"
        in metadata.get_payload()
    )


def test_a_wheel_of_a_checkout_has_no_link_that_leads_nowhere(tmp_path):
    metadata, _ = built(tmp_path)
    assert metadata.get_all("Project-URL") is None
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)\s]+)\)", metadata.get_payload()))
    assert "**Quickstart**" in metadata.get_payload()


def said(*arguments):
    command = [sys.executable, ROOT / "adapters/sbom.py", *arguments]
    return json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT, timeout=60).stdout)


@pytest.mark.parametrize("lock", ["requirements/container.lock", "native/crates.lock"])
def test_an_sbom_names_every_package_of_a_lock_with_its_digests(lock):
    text = (ROOT / lock).read_text("utf-8")
    found = said("lmstream", lock)["components"]
    if lock.endswith("crates.lock"):
        assert len(found) == text.count("\nchecksum = ")
        digests = set(re.findall(r'checksum = "(\w+)"', text))
    else:
        assert {each["name"] for each in found} == set(re.findall(r"^([\w.-]+)==", text.lower(), re.MULTILINE))
        digests = set(re.findall(r"sha256:(\w+)", text))
    assert {one["content"] for each in found for one in each["hashes"]} == digests
    assert len({each["bom-ref"] for each in found}) == len(found)


def test_a_lock_that_names_nothing_is_refused(tmp_path):
    (tmp_path / "empty.lock").write_text("# nothing\n")
    command = [sys.executable, ROOT / "adapters/sbom.py", "x", tmp_path / "empty.lock"]
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode != 0


def test_a_release_has_everything_and_each_file_that_its_steps_name_is_there():
    for part in (
        "--wheel",
        "make lambda-zip",
        "docker save",
        "adapters/sbom.py",
        "sha256sum",
        "--draft",
        "LMSTREAM_URL",
    ):
        assert part in RELEASE
    for path in re.findall(
        r"(?:requirements|native|adapters)/[\w./-]+\.(?:lock|py)|adapters/container/Dockerfile", RELEASE
    ):
        assert (ROOT / path).exists(), path
