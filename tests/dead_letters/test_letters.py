"""Dead letters in a folder: durable, at one place per record, never over another record, and readable as a source."""

import asyncio
import os
import resource
import stat

import pytest

from lmstream.dead_letters.letters import Letters, Settings
from lmstream.errors import ConfigError, SinkError
from lmstream.model import DeadLetter
from lmstream.sources.files import Files
from lmstream.sources.files import Settings as FilesSettings


def letter(offset=7, value=b"\x00bundle", topic="lm.metrics", **more):
    return DeadLetter(topic=topic, partition=3, offset=offset, timestamp=5, value=value, reason="decode.json", **more)


def names(root):
    return sorted(str(f.relative_to(root)) for f in root.rglob("*") if f.is_file())


@pytest.fixture
async def sink(tmp_path):
    made = Letters(Settings(root=str(tmp_path)))
    await made.check()
    yield made
    await made.close()
    await made.close()


async def test_the_same_letter_again_changes_nothing_and_all_come_back(tmp_path, sink):
    letters = [letter(), letter(offset=8, key=b"k", headers=(("h", b"\xff"),), rejected=((1, "value.two"),))]
    for _ in range(2):
        await asyncio.gather(*(sink.write(letters) for _ in range(3)))
    assert names(tmp_path) == ["lm.metrics/3/7.json", "lm.metrics/3/8.json"]
    source = Files(FilesSettings(paths=(str(tmp_path),)))
    batch = await source.poll(1 << 20)
    assert list(batch.records) == [each.record() for each in letters]
    await source.close()


async def test_another_record_at_the_same_coordinates_never_replaces_the_first(tmp_path, sink):
    for _ in range(2):
        await sink.write([letter(), letter(value=b"other"), letter(value=None)])
    assert len(names(tmp_path)) == 3
    (tmp_path / "lm.metrics/3/9.json").write_bytes(b"a note of somebody")
    await sink.write([letter(offset=9)])
    assert (tmp_path / "lm.metrics/3/9.json").read_bytes() == b"a note of somebody"
    assert len(names(tmp_path)) == 5


@pytest.mark.parametrize("topic", ["../../evil", "a/b", "", ".", "..", "x" * 500, "e\N{GRINNING FACE}", "a\nb", "a\0b"])
async def test_hostile_topics_stay_inside(tmp_path, topic):
    root = tmp_path / "deep" / "root"
    await Letters(Settings(root=str(root))).write([letter(topic=topic)])
    assert len(names(root)) == len(names(tmp_path)) == 1


@pytest.mark.parametrize("umask", [0o000, 0o022])
async def test_letters_and_their_folders_are_for_this_user_alone_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        sink = Letters(Settings(root=str(tmp_path / "made" / "root")))
        await sink.check()
        await sink.write([letter(), letter(value=b"other"), letter()])
    finally:
        os.umask(before)
    modes = {each: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "made", *tmp_path.rglob("made/**/*"))}
    assert len([each for each in modes if each.is_file()]) == 2
    assert {(each.is_dir(), mode) for each, mode in modes.items()} == {(True, 0o700), (False, 0o600)}


async def test_a_folder_that_cannot_be_written_raises_and_says_where(tmp_path, sink):
    (tmp_path / "lm.metrics").write_bytes(b"")
    with pytest.raises(SinkError, match=r"lm\.metrics/3/7\.json: ENOTDIR") as caught:
        await sink.write([letter()])
    assert caught.value.reason == "sink.disk"
    with pytest.raises(ConfigError):
        await Letters(Settings(root=str(tmp_path / "lm.metrics"))).check()


@pytest.fixture
def small_disk():
    """Files may hold 300 bytes: a write fails in the middle, as on a full disk. Call it to get the space back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_leaves_nothing_half_written_and_the_letter_is_there_once_there_is_space(
    tmp_path, sink, small_disk
):
    large = letter(value=b"x" * 5000)
    for _ in range(2):
        with pytest.raises(SinkError, match=r"lm\.metrics/3/7\.json: EFBIG") as caught:
            await sink.write([large])
        assert caught.value.reason == "sink.disk"
        assert names(tmp_path) == []
    await sink.write([letter(offset=8)])  # a small one has room
    small_disk()
    await sink.write([large, letter(offset=8)])
    assert names(tmp_path) == ["lm.metrics/3/7.json", "lm.metrics/3/8.json"]
