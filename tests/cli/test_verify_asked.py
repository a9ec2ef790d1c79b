"""What `verify` takes from the configuration, and what it refuses: all mistakes at once, before anything is read."""

import re

import pytest

from support.verdict_scene import Scene


@pytest.mark.slow
@pytest.mark.parametrize("sink", ["folder", "bucket"])
async def test_rows_topics_and_letters_are_those_of_the_configuration(tmp_path, sink):
    async with Scene(tmp_path, count=6, sink=sink, bad=(2,)) as scene:
        await scene.deliver()
        await scene.commit()
        s3 = ("--s3-endpoint-url", scene.s3.endpoint_url) if sink == "bucket" else ()
        said = await scene.call("verify", "--settle", "0", *s3, code=0)
        rows = "s3://lab/" if sink == "bucket" else str(scene.landed)
        assert f"from the configuration: rows {rows}; topics lm; dead letters {scene.dead}" in said.err
        assert f"landed={len(scene.rows)}" in said.out
        assert "dead_letters=1 letters_missing=0" in said.out
        said = await scene.call("verify", "--from", "0=1", "--to", "0=2", "--settle", "0", *s3, code=0)
        assert "bundles=1" in said.out


async def test_a_lake_is_proved_by_its_claims_and_against_its_topic_when_offsets_are_named(tmp_path):
    async with Scene(tmp_path, count=6, sink="local") as scene:
        await scene.deliver()
        await scene.commit()
        said = await scene.call("verify", code=0)
        assert f"from the configuration: rows {scene.landed}" in said.err
        assert "topics" not in said.err
        assert "proved from the bucket alone" in said.out
        said = await scene.call("verify", "--from", "0=0", code=0)
        assert "topics lm" in said.err
        assert "windows compared" in said.out


async def test_letters_of_another_machine_are_not_taken_for_missing_ones(tmp_path):
    async with Scene(tmp_path, count=4, sink="folder", bad=(2,)) as scene:
        await scene.deliver()
        await scene.commit()
        scene.dead.rename(tmp_path / "elsewhere")
        said = await scene.call("verify", code=0)
        assert f"dead letters: {scene.dead} of the configuration is not on this machine" in said.err
        assert "dead letters were not checked" in said.err


def test_topics_by_a_pattern_have_to_be_named(cli, tmp_path):
    kafka = (
        "--set source.type=kafka --set source.group=g --set source.bootstrap=127.0.0.1:1 --set source.topics=^lm[.].*"
    )
    said = cli("verify", "--org", "a", "--landed", tmp_path, *kafka.split())
    assert said.code == 2
    assert "source.topics has the pattern ^lm[.].*" in said.err
    assert "name each topic whose rows land there with --topic" in said.err


def test_flags_of_a_service_alone_are_refused_without_it(cli, tmp_path):
    said = cli("verify", "--landed", tmp_path, "--topic", "t", "--state", tmp_path / "s", "--address", "off")
    assert (said.code, "--state and --address: for --watch alone" in said.err) == (2, True), said.err
    assert not (tmp_path / "s").exists()


def test_every_mistake_in_the_flags_is_told_at_once(cli, tmp_path):
    flags = ("--watch", 0, "--address", "nowhere", "--repair", "--no-wait", "--to", "0=1", "--html", tmp_path / "x/y")
    said = cli("verify", "--landed", "s3://", "--topic", "t", *flags)
    assert said.code == 2
    for part in (
        "--watch 0: expected seconds, 1 or more",
        "--address: 'nowhere' is not host:port",
        "leave out --no-wait",
        "leave out --to, --no-wait, --repair",
        "--html",
        "s3://: expected s3://BUCKET/PREFIX",
        "source.bootstrap is not set",
    ):
        assert part in said.err
    assert len(re.findall(r"^lmstream: LMS-", said.err, re.MULTILINE)) >= 7
    said = cli("verify", "--landed", tmp_path / "a", "--dead-letters", tmp_path / "b", "--expected", __file__)
    assert said.err.count("no such folder") == 2


def test_every_range_that_is_wrong_is_told_at_once(cli, tmp_path):
    kafka = ("--bootstrap", "127.0.0.1:1", "--org", "a", "--group", "g", "--topic", "t", "--landed", tmp_path)
    said = cli("verify", *kafka, "--from", "a=1", "--from", "0=b", "--to", "u/0=1")
    assert said.code == 2
    for part in ("--from a=1", "--from 0=b", "--to u/0=1"):
        assert f"{part}: expected PARTITION=OFFSET, as in 0=1200" in said.err


def test_a_state_that_cannot_be_kept_is_refused_before_the_first_round(cli, tmp_path):
    (tmp_path / "file").touch()
    kafka = ("--bootstrap", "127.0.0.1:1", "--org", "a", "--group", "g", "--topic", "t", "--landed", tmp_path)
    said = cli("verify", *kafka, "--watch", 1, "--address", "off", "--state", tmp_path / "file/state")
    assert (said.code, "name a file that can be written" in said.err) == (2, True), said.err
