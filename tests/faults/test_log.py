"""What an outage costs in log lines: as real processes, with both clients."""

import asyncio
import subprocess
import sys

import pytest

from cli.test_signals import ENV, GROUP, Scene
from lmstream.lab import KafkaLab

AWAY = 60.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kafka", "confluent"])
async def test_a_dead_broker_costs_a_few_lines_a_minute(tmp_path, kind):
    async with KafkaLab() as lab, Scene(lab, tmp_path, "away") as scene:
        await scene.publish(10)
        said = tmp_path / "stderr"
        with said.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "lmstream", "run", "--bootstrap", lab.bootstrap, "--topic", "away"),
                *("--group", "away", "--org", "acme", "--dead-letters", scene.dead, "--landed", scene.landed),
                *(
                    "--set",
                    f"source.type={kind}",
                    "--set",
                    "run.report_seconds=3600",
                    "--set",
                    "sink.window_seconds=0.2",
                ),
                *(part for name, value in GROUP.items() for part in ("--set", f"source.{name}={value}")),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=ENV,
            )
        scene.processes.append(process)
        await scene.until(scene.all_committed)
        before = len(said.read_bytes().splitlines())
        await lab.close()
        await asyncio.sleep(AWAY)
        assert process.returncode is None
        lines = said.read_text().splitlines()[before:]
        print(*lines, sep="\n")
        assert len(lines) <= 20
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
