"""Every Kafka source on the cluster, over its own mTLS: the scenarios of the lab's broker."""

import pytest

from support.kafka_scenarios import SCENARIOS


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda run: run.__name__)
async def test_scenario(cluster, topic, module, run):
    await run(cluster, topic, module)
