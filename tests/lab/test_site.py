"""What the lab keeps over a restart, and that its weather is the same for the same seed."""

import random

import aiohttp
import pytest

from lmstream.lab import Certificates, Fault, S3Lab
from lmstream.lab.weather import CALM, fault, of_firehose, of_s3

KEYS = ["acme/CpuUsage/2024/05/09/14/x.json.gz", "a b/ü=1/%2F", "../outside", "a//b", "x" * 300, "dot/./."]


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as made:
        yield made


async def put(session, s3, key, data, **headers):
    url = f"{s3.endpoint_url}/lake/{'/'.join(map(quoted, key.split('/')))}"
    async with session.put(aiohttp.client.URL(url, encoded=True), data=data, headers=headers) as answer:
        return answer.status, answer.headers.get("ETag")


async def get(session, s3, key, method="GET"):
    url = f"{s3.endpoint_url}/lake/{'/'.join(map(quoted, key.split('/')))}"
    async with session.request(method, aiohttp.client.URL(url, encoded=True)) as answer:
        return answer.status, await answer.read(), answer.headers


def quoted(part):
    return "".join(f"%{byte:02X}" for byte in part.encode())


async def test_objects_of_a_folder_are_there_again_whatever_their_keys(tmp_path, session):
    folder = tmp_path / "in" / "here"
    etags = {}
    async with S3Lab("lake", folder=folder) as s3:
        port = s3.port
        for number, key in enumerate(KEYS):
            more = {"x-amz-meta-claim": "7", "Content-Type": "text/plain"} if number % 2 else {}
            status, etags[key] = await put(session, s3, key, f"bytes {number}".encode(), **more)
            assert status == 200
        assert await put(session, s3, KEYS[0], b"other", **{"If-None-Match": "*"}) == (412, None)
    assert {each.name for each in tmp_path.iterdir()} == {"in"}, "no key leads out of the folder"
    again = S3Lab("lake", folder=folder)
    again.port = port
    async with again as s3:
        assert s3.port == port
        assert sorted(s3.buckets["lake"]) == sorted(KEYS)
        for number, key in enumerate(KEYS):
            status, data, headers = await get(session, s3, key)
            assert (status, data, headers["ETag"]) == (200, f"bytes {number}".encode(), etags[key])
            assert headers.get("x-amz-meta-claim") == ("7" if number % 2 else None)
        assert (await put(session, s3, KEYS[0], b"other", **{"If-None-Match": "*"}))[0] == 412
        assert (await put(session, s3, KEYS[0], b"other", **{"If-Match": etags[KEYS[0]]}))[0] == 200
        assert (await get(session, s3, KEYS[1], "DELETE"))[0] == 204
    async with S3Lab("lake", folder=folder) as s3:
        assert (await get(session, s3, KEYS[0]))[1] == b"other"
        assert (await get(session, s3, KEYS[1]))[0] == 404


async def test_a_file_that_somebody_removed_is_an_object_that_is_gone(tmp_path, session):
    async with S3Lab("lake", folder=tmp_path) as s3:
        await put(session, s3, "a/1", b"one")
        await put(session, s3, "a/2", b"two")
        (tmp_path / "lake/a/1").unlink()
        async with session.get(f"{s3.endpoint_url}/lake?list-type=2&prefix=a/") as answer:
            listed = await answer.text()
        assert "<Key>a/2</Key>" in listed
        assert "<Key>a/1</Key>" not in listed
        assert (await get(session, s3, "a/1"))[0] == 404
        assert (await put(session, s3, "a/1", b"again", **{"If-None-Match": "*"}))[0] == 200


async def test_what_a_kill_left_half_written_is_no_object(tmp_path):
    (tmp_path / "lake/a").mkdir(parents=True)
    (tmp_path / "lake/a/.1-2.part").write_bytes(b"ha")
    async with S3Lab("lake", folder=tmp_path) as s3:
        assert s3.buckets["lake"] == {}


def test_certificates_are_kept_and_the_server_of_the_next_start_is_trusted(tmp_path):
    first = Certificates(tmp_path, keep=True)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    second = Certificates(tmp_path, keep=True)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
    assert first.ca == second.ca
    second.server_context()
    second.client_context()
    renewed = Certificates(tmp_path)
    assert renewed.ca.read_bytes() != before["ca.pem"]


def test_the_same_seed_is_the_same_weather_and_it_never_ends():
    for make in (of_firehose, of_s3):
        one, same, other = make(1), make(1), make(2)
        drawn = [one.popleft() for _ in range(2000)]
        assert drawn == [same.popleft() for _ in range(2000)]
        assert drawn != [other.popleft() for _ in range(2000)]
        assert one, "a plan with nothing left would end it"


def test_weather_hits_some_of_the_calls_and_a_storm_nearly_half():
    draw = random.Random(3)
    storm = [fault(draw) for _ in range(5000)]
    weather = [fault(draw, CALM) for _ in range(5000)]
    assert 0.42 < sum(each != Fault() for each in storm) / 5000 < 0.50
    assert 0.15 < sum(each != Fault() for each in weather) / 5000 < 0.22
    assert any(each.cut == "after" for each in weather), "accepted, and the answer lost: what makes duplicates"
    assert any(each.fail_ratio for each in weather)
