"""Lanes of several partitions are assigned whole, and no member of another number of lanes shares the group."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from lmstream.abilities import Laned
from lmstream.config import load
from lmstream.config.build import build_sink, build_source
from lmstream.errors import ConfigError
from lmstream.kafka.asking import _lanes
from lmstream.kafka.group.lost import LostError
from lmstream.kafka.lane_assignor import lane_assignor
from lmstream.lab import Broker
from lmstream.sources import confluent, kafka
from support.places import Teller, source
from support.supervised import TOPIC


@given(
    lanes=st.integers(1, 9),
    topics=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 20), min_size=1),
    members=st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=5),
)
def test_each_lane_goes_whole_to_one_member_that_reads_its_topic(lanes, topics, members):
    made = lane_assignor(lanes)
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: set(range(topics.get(topic, 0))) or None)
    wants = {f"member-{n}": made.metadata(sorted(some)) for n, some in enumerate(members)}
    given_to = {}
    counts = []
    for member, assignment in made.assign(cluster, wants).items():
        decoded = type(assignment).decode(assignment.encode())
        some = [(topic, partition) for topic, partitions in decoded.assignment for partition in partitions]
        assert {topic for topic, _ in some} <= set(wants[member].subscription)
        counts.append(len({(topic, partition % lanes) for topic, partition in some}))
        for topic, partition in some:
            assert (topic, partition) not in given_to
            given_to[topic, partition] = member
    read = set().union(*members)
    assert given_to.keys() == {(topic, n) for topic, count in topics.items() if topic in read for n in range(count)}
    owners = {}
    for (topic, partition), member in given_to.items():
        owners.setdefault((topic, partition % lanes), set()).add(member)
    assert all(len(some) == 1 for some in owners.values())
    if all(some == members[0] for some in members):
        assert max(counts) - min(counts) <= 1, "as many lanes for each member as can be"


def test_the_name_of_an_assignor_has_its_number_of_lanes():
    assert [lane_assignor(n).name for n in (1, 8)] == ["lmstream-lanes-1", "lmstream-lanes-8"]
    assert isinstance(lane_assignor(3).metadata(["t"]), ConsumerProtocolMemberMetadata)


async def test_members_of_a_group_get_whole_lanes_and_each_number_of_partitions():
    async with lab() as mock:
        tellers = [Teller({}), Teller({})]
        async with source(mock, kafka, tellers[0]) as one, source(mock, kafka, tellers[1]) as other:
            assert isinstance(one, Laned)
            one.lanes = other.lanes = 2
            sources, want = (one, other), [{0, 2, 4}, {1, 3}]
            async with asyncio.timeout(30):
                while sorted(map(owned, sources), key=sorted) != want:
                    await asyncio.gather(*(each.poll(1 << 20) for each in sources))
            assert all(topics == {TOPIC: 5} for teller in tellers for topics in teller.topics)


@contextlib.asynccontextmanager
async def lab():
    broker = Broker()
    await broker.start()
    try:
        await broker.create_topic(TOPIC, 5)
        yield broker
    finally:
        await broker.close()


def owned(consumer):
    return {tp.partition for tp in consumer.assignment}


def test_members_that_cannot_share_a_group_are_told_why():
    error = LostError("client", "InconsistentGroupProtocolError: ...")
    assert "another sink.lanes" in error.detail


@pytest.mark.parametrize(
    ("divided", "lanes", "said"),
    [
        ("", 2, ""),
        ("roundrobin", None, ""),
        ("cooperative-sticky", None, ""),
        ("lmstream-lanes-4", 4, ""),
        ("roundrobin", 4, "no lanes (roundrobin), and this process has 4"),
        ("lmstream-lanes-4", 2, "4 lanes, and this process has 2"),
        ("lmstream-lanes-4", None, "4 lanes, and this process has none"),
    ],
)
def test_a_group_without_lanes_is_told_from_one_that_has_them(divided, lanes, said):
    found = [check.said for check in _lanes("group g", divided, lanes)]
    assert found == ([f"LMS-4027 its members have {said}"] if said else [])


@pytest.mark.parametrize("kind", ["kafka", "confluent"])
def test_lanes_are_refused_with_a_client_that_cannot_assign_them(kind, tmp_path):
    file = tmp_path / "lake.toml"
    file.write_text(
        f"[source]\ntype = '{kind}'\nbootstrap = 'b:1'\ntopics = ['t']\ngroup = 'g'\n"
        "[engine]\norg_id = 'acme'\n[sink]\ntype = 's3'\nbucket = 'lake'\nregion = 'us-east-1'\nlanes = 2\n"
    )
    config = load(file)
    if kind == "kafka":
        assert build_source(config).lanes == 2
        return
    with pytest.raises(ConfigError, match=r"sink.lanes = 2 needs a group that assigns whole lanes"):
        build_sink(config)


@pytest.mark.parametrize(("module", "can"), [(kafka, True), (confluent, False)])
def test_which_sources_can_assign_lanes(module, can):
    assert module.TRAITS.lanes is can
