"""ACLs and the topic on three nodes that copy by their own certificate, open to all at first and then to nobody unnamed."""

import asyncio
import json
import time

import pytest

from apache_kafka.apache import MissingError
from apache_kafka.conftest import SAID
from apache_kafka.three import NODES, Three
from lmstream.cli import main
from lmstream.kafka.acls import Access
from lmstream.kafka.provisioning import administering
from lmstream.kafka.settings import Settings

pytestmark = pytest.mark.skipif("bool(os.environ.get('LMSTREAM_TEST_BOOTSTRAP'))", reason="needs nodes of its own")
TOPIC, GROUP = "lm.metrics.otlp", "lmstream"
WHO = [
    "--brokers",
    "User:CN=broker",
    "--administrator",
    "User:CN=admin",
    "--reader",
    "User:CN=lmstream",
    "--collector",
    "User:CN=collector",
]
SECONDS = 60


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    try:
        made = Three(tmp_path_factory.mktemp("three"))
    except MissingError as e:
        pytest.skip(f"SKIPPED, no test ran against Apache Kafka. It needs {e}")
    began = time.monotonic()
    try:
        made.start(open_to_all=True)
        SAID.append(f"three nodes with an authorizer, started in {time.monotonic() - began:.1f} s")
        yield made
    finally:
        made.close()


def until(condition, what):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"not in {SECONDS} s: {what}"
        time.sleep(0.3)


def acls(three, *arguments, who="admin"):
    return main(["acls", "--topic", TOPIC, "--group", GROUP, *three.flags(who), *arguments])


def ask(three, question, who="admin"):
    """What an administration client with this certificate is told."""
    options = three.options(who)
    settings = Settings(
        bootstrap=three.bootstrap,
        topics=(TOPIC,),
        security="ssl",
        ca=options["ssl.ca.location"],
        cert=options["ssl.certificate.location"],
        key=options["ssl.key.location"],
    )

    async def asked():
        async with administering(settings) as admin:
            return await question(admin)

    return asyncio.run(asked())


def grants(three, who="admin"):
    return ask(three, lambda admin: admin.grants(), who)


def test_the_topic_and_the_acls_from_an_open_cluster_to_a_closed_one(three, capsys):
    _make_the_topic(three, capsys)
    _refuse_what_would_shut_somebody_out(three, capsys)
    _grant(three, capsys)
    _close(three)
    _copy_under_the_acls(three)
    _undo(three, capsys)


def _make_the_topic(three, capsys):
    bare = ["topic", "--topic", TOPIC, *three.flags("admin")]
    topic = [*bare, "--partitions", "2", "--retention", "48h"]
    assert main(topic) == 0
    assert "would make lm.metrics.otlp: 2 partitions, 3 copies" in capsys.readouterr().err
    assert ask(three, lambda admin: admin.topic(TOPIC)) is None
    assert main([*topic, "--yes"]) == 0
    until(lambda: ask(three, lambda admin: admin.topic(TOPIC)) is not None, "the topic is there")
    partitions, copies, configs = ask(three, lambda admin: admin.topic(TOPIC))
    assert (partitions, copies) == (2, 3)
    assert (configs["retention.ms"], configs["max.message.bytes"]) == ("172800000", "1048588")
    capsys.readouterr()
    assert main([*topic, "--yes"]) == 0
    assert "lm.metrics.otlp is as requested" in capsys.readouterr().err
    assert main([*bare, "--partitions", "3", "--retention", "24h", "--message-bytes", "2000000", "--yes"]) == 0
    until(lambda: ask(three, lambda admin: admin.topic(TOPIC))[0] == 3, "three partitions")
    configs = ask(three, lambda admin: admin.topic(TOPIC))[2]
    assert (configs["retention.ms"], configs["max.message.bytes"]) == ("86400000", "2000000")
    until(lambda: three.in_sync(TOPIC) == 3, "all copies are there")


def _refuse_what_would_shut_somebody_out(three, capsys):
    for missing in ("--brokers", "--administrator", "--reader"):
        at = WHO.index(missing)
        assert acls(three, *WHO[:at], *WHO[at + 2 :], "--yes") == 2
        assert f"{missing} is missing" in capsys.readouterr().err
    # A connection that is not the administrator's would be shut out by its own second step.
    assert acls(three, *WHO, "--yes", who="collector") == 2
    assert "not that of User:CN=admin" in capsys.readouterr().err
    assert grants(three) == set()


def _grant(three, capsys):
    assert acls(three, *WHO, "--json") == 0
    said = capsys.readouterr()
    shown = [json.loads(line) for line in said.out.splitlines()]
    assert list(dict.fromkeys(each["step"] for each in shown)) == ["brokers", "administrators", "readers", "collectors"]
    assert "Nothing was changed" in said.err
    assert acls(three, *WHO, "--yes") == 0
    said = capsys.readouterr()
    assert "kafka-acls.sh --remove --force --allow-principal 'User:CN=collector' --operation Write" in said.err
    assert {(g.principal, g.operation, g.resource, g.name) for g in grants(three)} == {
        ("User:CN=broker", "Read", "topic", TOPIC),
        ("User:CN=broker", "Read", "group", "*"),
        ("User:CN=broker", "ClusterAction", "cluster", "kafka-cluster"),
        ("User:CN=admin", "All", "cluster", "kafka-cluster"),
        ("User:CN=admin", "All", "topic", "*"),
        ("User:CN=admin", "All", "group", "*"),
        ("User:CN=lmstream", "Read", "topic", TOPIC),
        ("User:CN=lmstream", "Describe", "topic", TOPIC),
        ("User:CN=lmstream", "Read", "group", GROUP),
        ("User:CN=collector", "Write", "topic", TOPIC),
        ("User:CN=collector", "Describe", "topic", TOPIC),
    }


def _close(three):
    three.stop()
    three.start(open_to_all=False)
    until(lambda: three.in_sync(TOPIC) == 3, "all copies are in sync after the restart")
    assert three.produce("collector", TOPIC, b"one") is None
    assert three.consume("lmstream", TOPIC, GROUP) == b"one"
    for who, error in (
        (three.produce("stranger", TOPIC, b"x"), "TOPIC_AUTHORIZATION_FAILED"),
        (three.produce("lmstream", TOPIC, b"x"), "TOPIC_AUTHORIZATION_FAILED"),
        (three.consume("collector", TOPIC, GROUP), "AUTHORIZATION_FAILED"),
        (three.consume("lmstream", TOPIC, "another"), "GROUP_AUTHORIZATION_FAILED"),
    ):
        assert error in str(who), (who, error)


def _copy_under_the_acls(three):
    """A node that was away catches up by the brokers' own certificate; without its grants copies would fall behind."""
    three.stop(NODES[-1])
    until(lambda: three.in_sync(TOPIC) == 2, "one copy is away")
    assert three.produce("collector", TOPIC, b"two") is None
    three.launch(NODES[-1])
    until(lambda: three.in_sync(TOPIC) == 3, "the node has caught up")
    access = Access(
        topic=TOPIC,
        group=GROUP,
        brokers=("User:CN=broker",),
        administrators=("User:CN=admin",),
        readers=("User:CN=lmstream",),
    )
    theirs = [each for _, step in access.steps() for each in step if each.principal == "User:CN=broker"]
    assert len(theirs) == 3
    ask(three, lambda admin: admin.forbid(theirs))
    three.stop(NODES[-1])
    three.launch(NODES[-1])
    began = time.monotonic()
    while time.monotonic() - began < 12:
        assert three.in_sync(TOPIC) < 3, "a copy came back without the brokers' grants: this test could not fail"
        time.sleep(0.5)
    ask(three, lambda admin: admin.allow(theirs))
    until(lambda: three.in_sync(TOPIC) == 3, "copies are back with the grants")


def _undo(three, capsys):
    assert acls(three, *WHO, "--undo") == 0
    assert "First cluster.acls = false" in capsys.readouterr().err
    assert len(grants(three)) == 11
    three.stop()
    three.start(open_to_all=True)
    assert acls(three, *WHO, "--undo", "--yes") == 0
    until(lambda: grants(three) == set(), "no ACL is left")
    assert three.produce("stranger", TOPIC, b"three") is None
