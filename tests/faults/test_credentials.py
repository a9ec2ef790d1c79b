"""AWS credentials that end and are renewed in the middle of a run, from the places that renew them on real hosts."""

import asyncio
import datetime as dt
import sys
import time

import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.utils import AioContainerMetadataFetcher
from aiohttp import web

from lmstream.delivery import DeliveryPolicy
from support.checking import AWS, LogSource, Scene
from support.wait import until

pytestmark = pytest.mark.slow  # seconds each: `make test-faults` runs them

LIFE = 2.0
"""Seconds that credentials last. A role's last an hour or more."""


class Issuer:
    """Hands out credentials as the endpoint of an ECS task or an EKS pod does, and knows which are valid."""

    def __init__(self):
        self.away = False
        self.refused = 0
        self.used: list[str] = []  # each key once, in the order of the first call signed with it
        self._ends: dict[str, float] = {}

    async def answer(self, _):
        if self.away:
            self.refused += 1
            return web.Response(status=503)
        key, end = f"ASIA{len(self._ends):016d}", time.time() + LIFE
        self._ends[key] = end
        until_when = dt.datetime.fromtimestamp(end, dt.UTC).isoformat().replace("+00:00", "Z")
        made = {"AccessKeyId": key, "Expiration": until_when}
        # The container's endpoint says Token, a process SessionToken and the version of the form.
        return web.json_response(made | {"SecretAccessKey": "lab", "Token": key, "SessionToken": key, "Version": 1})

    def valid(self, key):
        if key not in self.used:
            self.used.append(key)
        return time.time() < self._ends.get(key, 0)


@pytest.fixture
async def issuer():
    made = Issuer()
    app = web.Application()
    app.router.add_get("/", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


def container(monkeypatch, issuer, _):
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", issuer.url)


def process(monkeypatch, issuer, folder):
    ask = f"import urllib.request as r; print(r.urlopen('{issuer.url}').read().decode())"
    (folder / "aws").write_text(f'[default]\ncredential_process = {sys.executable} -I -S -c "{ask}"\n')
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "aws"))


@pytest.fixture(params=[container, process])
def credentials(request, monkeypatch, issuer, tmp_path):
    for name in ("AWS_EC2_METADATA_DISABLED", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, AWS[name])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    # The SDK renews in the last 15 minutes, in the last 10 it must, and it asks three times, a second apart.
    monkeypatch.setattr(AioRefreshableCredentials, "_advisory_refresh_timeout", LIFE / 2)
    monkeypatch.setattr(AioRefreshableCredentials, "_mandatory_refresh_timeout", LIFE / 4)
    monkeypatch.setattr(AioContainerMetadataFetcher, "SLEEP_TIME", 0.05)
    request.param(monkeypatch, issuer, tmp_path)


class Trickle(LogSource):
    """A topic that goes on for seconds."""

    async def poll(self, room, /):
        await asyncio.sleep(0.04)
        return await super().poll(room)


@pytest.fixture
async def scene(tmp_path, credentials, issuer):  # noqa: ARG001 - a fixture for what it does
    async with Scene(tmp_path) as made:
        made.hose.valid_key = issuer.valid
        yield made


async def test_credentials_are_renewed_while_a_run_goes_on(scene, issuer):
    runtime = scene.runtime(Trickle(scene.records(240), step=2), delivery=DeliveryPolicy())
    summary = await asyncio.wait_for(runtime.run(), 60)
    print(f"{len(issuer.used)} keys signed {scene.hose.counters.calls} calls")
    assert len(issuer.used) >= 4
    # A key may end while a call is under way, and on a busy machine it does: that call is made again.
    assert scene.hose.counters.refused_calls < scene.hose.counters.calls / 10
    assert (summary.unknown_outcomes, summary.unacked) == (0, 0)
    await scene.judge()


async def test_a_provider_that_is_away_when_credentials_end_delays_and_loses_nothing(scene, issuer):
    source, seen = Trickle(scene.records(240), step=2), []
    running = asyncio.create_task(scene.runtime(source, on_progress=seen.append).run())
    await until(lambda: source.committed, 20, "the first commit")
    issuer.away = True
    await until(lambda: seen and seen[-1].trouble, 30, "the trouble")
    asked, held = issuer.refused, dict(source.committed)
    await until(lambda: issuer.refused > asked + 2, 30, "further questions")
    assert not running.done()
    now = seen[-1]
    assert (now.trouble.code, now.fatal) == ("CredentialRetrievalError", None)
    assert now.unacked > 0
    assert source.committed == held
    issuer.away = False
    summary = await asyncio.wait_for(running, 60)
    assert summary.unacked == 0
    await scene.judge()  # not one duplicate: nothing had been sent
