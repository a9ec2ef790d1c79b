"""Hypothesis profiles: `dev` is quick and the same every time, `ci` looks longer, `night` looks elsewhere each time.

LMSTREAM_TEST_HYPOTHESIS chooses."""

import functools
import os
import tempfile
from pathlib import Path

import botocore.session
import pytest
from hypothesis import HealthCheck, Phase, settings

from lmstream.aws import descriptions

# Topics of tests are no topics that the user of this machine wants to complete.
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / f"lmstream-tests-{os.getuid()}")
# One loader for all sessions of botocore, as all clients of one session have: each would read megabytes of JSON again.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
descriptions.loader = functools.cache(descriptions.loader)
settings.register_profile(
    "dev", max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci", max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("night", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# That a property fails is all that is asked there: the smallest example costs most of the time.
settings.register_profile(
    "mutants", settings.get_profile("dev"), phases=[Phase.explicit, Phase.generate], print_blob=False
)
settings.load_profile(os.environ.get("LMSTREAM_TEST_HYPOTHESIS", "dev"))


def pytest_xdist_auto_num_workers():
    """Two cores are kept busy by four: tests wait for brokers and clocks."""
    return (os.cpu_count() or 2) + 2


def pytest_collection_modifyitems(items):
    """`make test` runs several processes, and ends at once when they know tests by different names."""
    if moving := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"{moving[0]}: a name with an address, give the cases `ids`")
