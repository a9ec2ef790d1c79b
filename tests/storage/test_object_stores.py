"""What every store of objects promises, asked of each of them: a bucket of two makers, a folder, the double of tests."""

import asyncio
import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.bounded import BoundError
from lmstream.interfaces import StoreError
from lmstream.model import Kind
from lmstream.storage import _folder_names, objects_s3
from lmstream.storage.bucket import Access
from lmstream.storage.objects_folder import FolderObjects
from lmstream.storage.objects_s3 import S3Objects
from lmstream.storage.store_probe import probe
from support.buckets import S3
from support.s3_servers import KEYS, missing, served
from support.scripted_store import Moods, ScriptedStore

# Not SeaweedFS: it lists a/b before a-b, which is no order of keys, and is refused for it when that happens.
STORES = ["folder", "scripted", "moto", pytest.param("ministack", marks=pytest.mark.slow)]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", KEYS[0])
        patch.setenv("AWS_SECRET_ACCESS_KEY", KEYS[1])
        yield tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module", params=STORES)
def store(request, servers):
    """One for all tests of a module, each with a prefix of its own."""
    if request.param == "folder":
        yield FolderObjects(servers / "root")
    elif request.param == "scripted":
        yield ScriptedStore(Random(0), moods=Moods(slowdown=0, conflict=0, broken=0, lost=0, late=0, slowest=0.001))
    elif request.param == "moto":
        server = S3(bucket="lake")
        yield S3Objects(Access(bucket="lake", region="us-east-1", endpoint_url=server.url, concurrency=32))
        server.close()
    else:
        if why := missing("ministack"):
            pytest.skip(why)
        with served("ministack", "lake") as url:
            yield S3Objects(Access(bucket="lake", region="us-east-1", endpoint_url=url, concurrency=32))


@pytest.fixture
def below():
    return f"t{next(_numbers)}/"


async def test_an_object_is_made_once_and_comes_back(store, below):
    key, data, meta = f"{below}a=1/b c/é~x+y.json", bytes(range(256)) * 9, {"rows": "3", "digest": "0a"}
    assert await store.get(key, 9999) is None
    assert await store.stat(key) is None
    assert await store.create(key, data, meta) is True
    assert await store.create(key, b"other", {"rows": "4"}) is False
    assert await store.get(key, len(data)) == data
    assert await store.stat(key) in ({}, meta)
    with pytest.raises(BoundError):
        await store.get(key, len(data) - 1)


async def test_an_empty_object_is_an_object(store, below):
    assert await store.create(f"{below}e", b"", {}) is True
    assert await store.get(f"{below}e", 0) == b""
    assert await store.stat(f"{below}e") == {}
    assert await store.create(f"{below}e", b"x", {}) is False


@pytest.mark.parametrize("turn", range(3))
async def test_of_many_who_make_one_object_at_once_one_does(store, below, turn):
    data = [b"%d" % n * 1000 for n in range(16)]
    key = f"{below}{turn}/race"

    async def make(each):
        while True:
            try:
                return await store.create(key, each, {})
            except StoreError as error:  # 409 is an answer too: the same again
                assert error.failure.kind is Kind.RETRYABLE  # noqa: PT017 - and then it is repeated

    answers = await asyncio.gather(*map(make, data))
    assert sorted(answers) == [False] * 15 + [True]
    assert await store.get(key, 9999) == data[answers.index(True)]


async def test_names_come_in_the_order_of_their_bytes(store, below):
    keys = ["a", "a-b/x", "a.b", "a0", "ab/c/d", "ab/c-d", "ab/c.d", "ab/c0", "b/é", "b/z", "b/~"]
    for each in sorted(keys, reverse=True):
        await store.create(f"{below}{each}", b"", {})
    ordered = sorted((f"{below}{each}" for each in keys), key=str.encode)
    assert list(await store.names(below, 100)) == ordered
    assert list(await store.names(below, 3)) == ordered[:3]
    for begin in ("a", "a-", "ab/", "ab/c", "b/", "zz", "a/x"):
        wanted = [each for each in ordered if each.startswith(f"{below}{begin}")]
        assert list(await store.names(f"{below}{begin}", 100)) == wanted
        assert list(await store.names(f"{below}{begin}", 1)) == wanted[:1]


async def test_more_names_than_a_page_has(store, below, monkeypatch):
    monkeypatch.setattr(objects_s3, "_PAGE", 64)
    monkeypatch.setattr(_folder_names, "_CHUNK", 64)
    names = [f"{below}{n:05}" for n in range(200)]
    await asyncio.gather(*(store.create(each, b"", {}) for each in names))
    assert list(await store.names(below, 5000)) == names
    assert list(await store.names(below, len(names) - 1)) == names[:-1]


async def test_folders_come_once_each_in_the_order_of_their_keys(store, below, monkeypatch):
    monkeypatch.setattr(objects_s3, "_PAGE", 2)
    for each in ("a/1", "a/2", "a/3/4", "a-b/1", "a.b/1", "a0/1", "10/1", "9/1", "none"):
        await store.create(f"{below}{each}", b"", {})
    assert list(await store.folders(below, 100)) == ["10", "9", "a-b", "a.b", "a", "a0"]
    assert list(await store.folders(below, 3)) == ["10", "9", "a-b"]
    assert list(await store.folders(f"{below}a/", 9)) == ["3"]
    assert list(await store.folders(f"{below}none/", 9)) == []


async def test_it_passes_the_questions_of_a_start(store, below):
    assert [each.verdict for each in await probe(store, below)] == ["ok", "ok"]


@given(
    keys=st.lists(
        st.lists(
            st.text("ab-.0~", min_size=1, max_size=3).filter(lambda t: not t.startswith(".")), min_size=1, max_size=3
        ),
        max_size=12,
    ),
    most=st.integers(1, 12),
    cut=st.integers(0, 5),
)
def test_a_folder_lists_as_a_bucket_does(tmp_path_factory, keys, most, cut):
    async def main():
        folder = FolderObjects(tmp_path_factory.mktemp("list"))
        bucket = ScriptedStore(
            Random(0), moods=Moods(**dict.fromkeys(("slowdown", "conflict", "broken", "lost", "late"), 0), slowest=0)
        )
        for key in map("/".join, keys):
            try:
                await folder.create(key, b"", {})
            except StoreError:  # a folder has the name, or the name a folder belongs to: a bucket has both
                continue
            await bucket.create(key, b"", {})
        some = "/".join(keys[0])[:cut] if keys else ""
        for prefix in ("", some):
            assert list(await folder.names(prefix, most)) == await bucket.names(prefix, most)
        for prefix in ("", "a/", "b/a/"):
            assert list(await folder.folders(prefix, most)) == await bucket.folders(prefix, most)

    asyncio.run(main())


async def test_what_is_replaced_is_the_version_that_was_read(store, below):
    key = f"{below}p/x.ndjson"
    assert await store.tagged(key) is None
    assert await store.replace(key, b"new", {}, "some") is False
    assert await store.create(key, b"old", {}) is True
    first = await store.tagged(key)
    assert await store.replace(key, b"new", {"rows": "0"}, first.tag) is True
    assert await store.get(key, 99) == b"new"
    assert await store.replace(key, b"late", {}, first.tag) is False
    second = await store.tagged(key)
    assert second.tag != first.tag
    assert second.meta in ({}, {"rows": "0"})
    assert await store.create(key, b"again", {}) is False  # the name was never free
    assert await store.names(below, 9) == [key]
