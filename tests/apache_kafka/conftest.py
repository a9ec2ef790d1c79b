"""One cluster for the whole session: Apache Kafka started here, or the one that LMSTREAM_TEST_BOOTSTRAP names.

LMSTREAM_TEST_BOOTSTRAP=host:port,... with _CA, _CERT and _KEY (PEM files) for TLS points the same suites at any
cluster; tests that kill brokers or need their certificates are then left out. Topics are made with names of their own
and deleted in the end.
"""

import contextlib
import importlib.util
import os
import secrets
import time

import pytest

from apache_kafka.apache import ApacheKafka, Cluster, MissingError, fetch

NAMES = [name for name in ("kafka", "confluent") if importlib.util.find_spec(f"lmstream.sources.{name}")]
SAID = []


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    named = {name: os.environ.get(f"LMSTREAM_TEST_{name.upper()}", "") for name in ("bootstrap", "ca", "cert", "key")}
    if named["bootstrap"]:
        made = Cluster(**named)
    else:
        try:
            began = time.monotonic()
            fetch()
            fetched = time.monotonic() - began
            made = ApacheKafka(tmp_path_factory.mktemp("kafka"))
            made.about += f", fetched in {fetched:.1f} s"
        except MissingError as e:
            said = f"SKIPPED, no test ran against Apache Kafka. It needs {e}"
            if said not in SAID:
                SAID.append(said)
            pytest.skip(said)
    SAID.append(made.about)
    yield made
    made.close()


@pytest.fixture
def ours(cluster):
    if not cluster.ours:
        pytest.skip("this cluster is not ours to kill")
    return cluster


@pytest.fixture
def topic(request):
    """A name that nothing else has."""
    return f"lmstream-{request.node.originalname.removeprefix('test_')[:60]}-{secrets.token_hex(4)}"


@pytest.fixture(params=NAMES)
def module(request):
    return importlib.import_module(f"lmstream.sources.{request.param}")


@pytest.fixture
def say(request):
    """A line for the end of the session: a figure that was measured."""
    return lambda text: SAID.append(f"{request.node.name}: {text}")


# aiokafka (0.14, client.py, bootstrap) does not wait for the end of the connection that it began with, and does not
# close it where the start is cancelled: on a busy machine the test's loop ends before the socket does.
LEFT = r"ignore:Exception ignored in. (<socket\.socket|<function _SelectorTransport\.__del__|<ssl\.SSLSocket):"
LEFT_OPEN = pytest.mark.filterwarnings(LEFT + "pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items):
    for item in items:
        if "apache_kafka" in item.path.parts:
            item.add_marker(LEFT_OPEN)


def pytest_configure(config):
    """Fetch the broker once, before several processes want it (`--numprocesses`), each with a broker of its own."""
    if getattr(config.option, "numprocesses", None) and not os.environ.get("LMSTREAM_TEST_BOOTSTRAP"):
        with contextlib.suppress(MissingError):
            fetch()


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["said"] = SAID


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    SAID.extend(line for line in node.workeroutput.get("said", ()) if line not in SAID)


def pytest_terminal_summary(terminalreporter):
    if SAID:
        terminalreporter.section("Apache Kafka")
    for line in SAID:
        terminalreporter.line(line, yellow=line.startswith("SKIPPED"), bold=line.startswith("SKIPPED"))
