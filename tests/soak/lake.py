"""Members of a lake killed and stopped for minutes: is any row lost, or there twice?

    .venv/bin/python tests/soak/lake.py --kills 100 --sleeps 100
    .venv/bin/python tests/soak/lake.py --kills 30 --sleeps 30 --store seaweedfs

Three members (`lmstream run` as processes) land a topic in the lab's S3, which throttles, fails and loses answers, or in
the S3 of another maker (`support.s3_servers`). One that is stopped continues when its partitions have another owner, in
the middle of whatever it did. Ends with one JSON line, and exit 0 only when each row lies there once.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.lake_scene import SESSION, LakeScene
from support.s3_servers import missing
from support.wait import until

MEMBERS = 3
WEATHER = ("SlowDown", "InternalError", "ConditionalRequestConflict", "lost", "cut")


async def weather(scene: LakeScene, draw: random.Random) -> None:
    """One call in thirty fails in some way."""
    while True:
        await asyncio.sleep(0.5)
        scene.s3.faults.extend(draw.choice(WEATHER) if draw.random() < 1 / 30 else "" for _ in range(30))
        if len(scene.s3.faults) > 300:
            scene.s3.faults.clear()


async def soak(folder: Path, kills: int, sleeps: int, seed: int, client: str, store: str) -> dict:
    """Each event at a time and to a member that the seed draws."""
    draw = random.Random(seed)
    began = time.monotonic()
    events = ["kill"] * kills + ["sleep"] * sleeps
    draw.shuffle(events)
    async with LakeScene(folder, client=client, partitions=6, store=store) as scene:
        members = [await scene.join() for _ in range(MEMBERS)]
        stormy = asyncio.create_task(weather(scene, draw))
        publishing = asyncio.create_task(endless(scene))
        await until(lambda: bool(scene.landed), 60, "the first object")
        asleep: dict = {}
        for at, event in enumerate(events):
            await asyncio.sleep(2 + 3 * draw.random())  # a member needs some seconds to begin
            which = draw.randrange(MEMBERS)
            if event == "kill":
                await members[which].kill()
            else:
                members[which].send(signal.SIGSTOP)
                asleep[members[which]] = asyncio.create_task(wake(members[which], SESSION + 1 + 3 * draw.random()))
            # The one that sleeps is no member for the group soon: another takes its place.
            members[which] = await scene.join()
            if at % 10 == 9:
                print(f"{at + 1} of {len(events)} events, {len(scene.landed):,} objects", file=sys.stderr, flush=True)
            sleeping = {each for each, waking in asleep.items() if not waking.done()}
            running = [each for each in scene.members if each.alive and each not in {*members, *sleeping}]
            for each in running[: max(0, len(running) - 2)]:
                await each.kill()  # as many as the machine bears
        publishing.cancel()
        stormy.cancel()
        await asyncio.wait({publishing, stormy, *asleep.values()})
        woken = sum(each.result() for each in asleep.values())
        scene.s3.faults.clear()
        await scene.settled(180)
        for each in scene.members:
            if each.alive:
                await each.stop()
        rows, duplicate, lost = await scene.judge()
        return {
            "rows": rows, "duplicate": duplicate, "lost": lost, "kills": kills, "sleeps": sleeps, "woken": woken,
            "objects": len(scene.landed), "claims": scene.claims, "contested": scene.contested,
            "seed": seed, "client": client, "store": store, "seconds": round(time.monotonic() - began),
        }  # fmt: skip


async def endless(scene: LakeScene) -> None:
    """Bundles until cancelled."""
    seed = 1
    while True:
        await scene.publish(200, rate=40, seed=seed)
        seed += 1


async def wake(member, seconds: float) -> bool:
    """Whether there was still one to continue."""
    await asyncio.sleep(seconds)
    member.send(signal.SIGCONT)
    return member.alive


def main() -> int:
    """Print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--sleeps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--client", choices=("kafka", "confluent"), default="kafka")
    parser.add_argument("--store", choices=("lab", "seaweedfs", "ministack"), default="lab")
    flags = parser.parse_args()
    if flags.store != "lab" and (why := missing(flags.store)):
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(soak(Path(folder), flags.kills, flags.sleeps, flags.seed, flags.client, flags.store))
    print(json.dumps(found))
    return 0 if (found["duplicate"], found["lost"]) == (0, 0) else 1


if __name__ == "__main__":
    sys.exit(main())
