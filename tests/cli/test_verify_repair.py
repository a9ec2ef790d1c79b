"""`verify --repair`: what a verdict names is made good, nothing else is sent, and the second verdict is the exit code."""

import gzip
import json

import pytest

from lmstream.lab.s3 import S3Object
from support.verdict_scene import Scene, lines_of, rewrite

VERIFY = ("verify", "--topic", "lm", "--json")


def places(scene):
    return ["--landed", scene.landed, "--dead-letters", scene.dead]


def plant(scene):
    """An object removed, a line removed, a value changed, an id changed: each in an object of its own."""
    gone, shorter, changed, other = [path for path in scene.objects if len(lines_of(path)) > 2][:4]
    lost = len(lines_of(gone)) + 1
    gone.unlink()
    rewrite(shorter, lines_of(shorter)[1:])
    lines = lines_of(changed)
    rewrite(changed, [lines[0].replace(b'"value":', b'"value":1'), *lines[1:]])
    lines = lines_of(other)
    rewrite(other, [*lines[:-1], lines[-1].replace(b'"rowId":"', b'"rowId":"?')])
    return lost, changed, other


@pytest.mark.slow
@pytest.mark.parametrize(("sink", "settle"), [("folder", ()), ("firehose", ("--settle", "8"))])
async def test_planted_losses_are_found_and_made_good_without_a_copy(tmp_path, sink, settle):
    async with Scene(tmp_path, sink=sink, partitions=2, bad=(5,)) as scene:
        await scene.deliver()
        await scene.commit()
        rows = scene.rows
        assert sorted(scene.there) == sorted(rows.values())
        lost, changed, other = plant(scene)
        before = {path: lines_of(path) for path in (changed, other)}
        next(scene.dead.rglob("*.json")).unlink()

        said = await scene.call(*VERIFY, *places(scene), *settle, "--repair", code=3)
        assert said.json["repair"] is said.json["after"] is None
        assert "Nothing was changed. Give --yes to repair it." in said.err
        assert f"to repair: {lost + 2:,} rows of" in said.err, said.err

        page = tmp_path / "page.html"
        said = await scene.call(*VERIFY, *places(scene), *settle, "--repair", "--yes", "--html", page, code=0)
        first, done, last = said.json["before"], said.json["repair"], said.json["after"]
        assert (first["ok"], last["ok"]) == (False, True)
        assert first["total"]["lost"] == lost + 1, "the row whose id was changed, too"
        assert (first["total"]["changed"], first["total"]["outside"], first["total"]["letters_missing"]) == (1, 1, 1)
        assert (last["total"]["landed"], last["total"]["duplicate"]) == (len(rows), 0)
        assert (done["rows"], done["letters"], done["copies"], done["lines"]) == (lost + 2, 1, 0, 2)
        await scene.flush()
        assert sorted(scene.there) == sorted(rows.values()), "each row once, byte for byte"
        assert {path: lines_of(tmp_path / done["objects"][str(path)]) for path in before} == before, "kept as it was"
        text = page.read_text()
        assert text.index("Nothing is lost") < text.index("<h1>Before</h1>") < text.index("<h1>After</h1>")
        assert f"{lost + 2:,} rows of" in text

        said = await scene.call(*VERIFY, *places(scene), *settle, "--repair", code=0)
        assert said.json["before"]["ok"]
        assert said.json["repair"] is None


async def test_rows_under_another_path_and_files_that_are_damaged_are_set_right(tmp_path):
    async with Scene(tmp_path) as scene:
        await scene.deliver()
        await scene.commit()
        first, second = scene.objects[:2]
        moved = scene.landed / "elsewhere" / "part.ndjson.gz"
        moved.parent.mkdir()
        first.rename(moved)
        data = second.read_bytes()
        second.write_bytes(data[: len(data) // 2] + b"\0\0\0\0" + data[len(data) // 2 + 4 :])
        said = await scene.call(*VERIFY, *places(scene), "--repair", "--yes", code=0)
        assert said.json["before"]["total"]["misplaced"] == len(lines_of(next(moved.parent.glob("_damaged-*"))))
        assert said.json["before"]["total"]["lost"] > 0
        assert sorted(scene.there) == sorted(scene.rows.values())
        assert str(second) in said.json["repair"]["objects"]


async def test_a_log_says_what_is_lost_and_the_topic_has_it(tmp_path):
    async with Scene(tmp_path, bad=(2,)) as scene:
        from lmstream import Engine, Settings
        from lmstream.verification import expectation

        engine = Engine(Settings(org_id="acme"))
        import msgspec

        log = tmp_path / "log.jsonl"
        entries = [msgspec.json.encode(expectation(engine, each, "")) for each in scene.records]
        log.write_bytes(b"\n".join(entries) + b"\n")
        await scene.deliver()
        rows = scene.rows
        lost, *_ = plant(scene)
        command = ("verify", "--expected", log, *places(scene), "--repair", "--yes", "--json")
        said = await scene.call(*command, code=0)
        assert said.json["repair"]["rows"] == lost + 2
        assert sorted(scene.there) == sorted(rows.values())


@pytest.mark.slow
async def test_other_settings_than_the_runs_are_refused_and_nothing_is_touched(tmp_path):
    async with Scene(tmp_path) as scene:
        await scene.deliver()
        await scene.commit()
        before = scene.there
        said = await scene.call(*VERIFY, *places(scene), "--repair", "--yes", "--org", "other", code=2)
        assert "they landed with other settings" in said.err, said
        said = await scene.call(*VERIFY, *places(scene), "--repair", "--yes", "--source-id", "other", code=2)
        assert "make other ids" in said.err, said
        assert scene.there == before
        (tmp_path / "elsewhere").mkdir()
        said = await scene.call(*VERIFY, "--landed", tmp_path / "elsewhere", "--repair", "--yes", code=2)
        assert "the sink of the configuration lands rows at" in said.err


@pytest.mark.slow
async def test_an_object_in_s3_is_written_again_only_if_it_is_still_the_one(tmp_path):
    async with Scene(tmp_path, sink="bucket") as scene:
        await scene.deliver()
        await scene.commit()
        keys = scene.lake_objects
        data = gzip.decompress(scene.bucket[keys[0]].data).replace(b'"value":', b'"value":1', 1)
        scene.bucket[keys[0]] = S3Object(gzip.compress(data), {}, "application/gzip")
        gone = gzip.decompress(scene.bucket.pop(keys[1]).data)
        flags = ("--landed", "s3://lab", "--dead-letters", scene.dead, "--s3-endpoint-url", scene.s3.endpoint_url)
        said = await scene.call(*VERIFY, *flags, "--settle", 8, "--repair", "--yes", code=0)
        assert said.json["before"]["total"]["changed"] == 1
        assert said.json["repair"]["rows"] == len(gone.splitlines()) + 1
        aside = said.json["repair"]["objects"][f"s3://lab/{keys[0]}"]
        assert gzip.decompress(scene.bucket[aside].data) == data
        there = [line for key in scene.lake_objects for line in gzip.decompress(scene.bucket[key].data).splitlines()]
        assert sorted(there) == sorted(scene.rows.values())
        said = await scene.call(*VERIFY, "--landed", "s3://lake", *flags[2:], "--repair", "--yes", code=2)
        assert "lands rows at s3://lab, and --landed is s3://lake/" in said.err


@pytest.mark.slow
async def test_a_lake_is_repaired_by_its_claims(tmp_path):
    async with Scene(tmp_path, sink="lake", bad=(3,)) as scene:
        await scene.deliver()
        await scene.commit()
        whole = dict(scene.bucket)
        gone, changed = scene.lake_objects[:2]
        del scene.bucket[gone]
        data = gzip.decompress(whole[changed].data).replace(b'"value":', b'"value":1', 1)
        scene.bucket[changed] = S3Object(gzip.compress(data), whole[changed].meta, "application/gzip")
        # What the newest windows lack may be on its way; after that second it is lost.
        flags = ("--landed", "s3://lake", "--settle", 1, "--s3-endpoint-url", scene.s3.endpoint_url)
        said = await scene.call("verify", *flags, "--repair", "--json", code=3)
        assert said.json["after"] is None
        said = await scene.call("verify", *flags, "--repair", "--yes", "--json", code=0)
        assert said.json["before"]["lake"]["damaged"] == [changed]
        assert (said.json["before"]["lake"]["objects_lost"], said.json["after"]["ok"]) == (1, True)
        assert {key: gzip.decompress(each.data) for key, each in scene.bucket.items() if key in scene.lake_objects} == {
            key: gzip.decompress(each.data) for key, each in whole.items() if key.endswith(".gz")
        }
        (aside,) = [key for key in scene.bucket if "_damaged-" in key]
        assert gzip.decompress(scene.bucket[aside].data) == data
        said = await scene.call("verify", *flags, "--topic", "lm", "--json", code=0)


async def test_a_lake_in_a_folder_is_repaired_by_its_claims(tmp_path):
    async with Scene(tmp_path, sink="local", bad=(3,)) as scene:
        await scene.deliver()
        await scene.commit()
        whole = {path: path.read_bytes() for path in scene.objects}
        gone, changed = scene.objects[:2]
        gone.unlink()
        data = gzip.decompress(whole[changed]).replace(b'"value":', b'"value":1', 1)
        changed.write_bytes(gzip.compress(data))
        flags = ("--landed", scene.landed, "--settle", "0.1")
        said = await scene.call("verify", *flags, "--repair", "--json", code=3)
        assert said.json["after"] is None
        said = await scene.call("verify", *flags, "--repair", "--yes", "--json", code=0)
        assert said.json["before"]["lake"]["damaged"] == [str(changed.relative_to(scene.landed))]
        assert (said.json["before"]["lake"]["objects_lost"], said.json["after"]["ok"]) == (1, True)
        assert {path: gzip.decompress(path.read_bytes()) for path in scene.objects} == {
            path: gzip.decompress(each) for path, each in whole.items()
        }
        (aside,) = scene.landed.rglob("_damaged-*")
        assert gzip.decompress(aside.read_bytes()) == data
        await scene.call("verify", *flags, "--topic", "lm", "--json", code=0)


def test_waiting_is_part_of_a_repair(cli, tmp_path):
    said = cli("verify", "--landed", tmp_path, "--topic", "lm", "--repair", "--no-wait", "--bootstrap", "x:1")
    assert (said.code, "leave out --no-wait" in said.err) == (2, True)
    assert json.dumps(said.out) == '""'
