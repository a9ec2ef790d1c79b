"""`trace`: from the id of a row to its record, the marked point, the row, and where it is or why not."""

import json
from datetime import UTC, datetime

import pytest

from support.verdict_scene import START, Scene, lines_of, rewrite

SINCE = ("--since", "2025-01-01T00:00Z")
NOW = int(datetime.now(UTC).timestamp() * 1000) - 3_600_000


def row_of(scene, number=4, ordinal=2):
    """A row of a record: its id, its line, its record."""
    record = scene.records[number]
    scene.records, all_of_them = [record], scene.records
    rows = scene.rows
    scene.records = all_of_them
    name = next(each for each in rows if each.endswith(f":{ordinal}"))
    return name, rows[name], record


@pytest.mark.slow
async def test_a_row_is_followed_from_its_id_to_its_object_and_line(tmp_path):
    async with Scene(tmp_path, partitions=2, start=NOW) as scene:
        await scene.deliver()
        name, line, record = row_of(scene)
        (there,) = [path for path in scene.objects if line in lines_of(path)]
        said = await scene.call("trace", name, "--json", code=0)
        told = json.loads(said.out)
        assert (told["state"], told["row"]) == ("landed", json.loads(line))
        assert told["landed"] == [{"object": str(there), "line": lines_of(there).index(line) + 1, "same": True}]
        assert told["record"]["offset"] == record.offset
        assert told["record"]["partition"] == record.partition
        assert told["point"]["path"].startswith("$.resourceMetrics[0].scopeMetrics[0].metrics[")
        assert told["searched"]["records"] <= 12

        said = await scene.call("trace", name, code=0)
        assert record.coordinates in said.out
        assert "=> " in said.out
        assert f"key: b'key-{scene.records.index(record)}'" in said.out
        assert f"{there} line " in said.out
        assert "searched: " in said.err
        same = await scene.call("trace", f"{record.coordinates}:2", code=0)
        assert same.out == said.out

        # Twice, changed, and not there at all.
        rewrite(there, [*lines_of(there), line])
        assert "2 copies" in (await scene.call("trace", name, code=0)).out
        rewrite(there, [each.replace(b'"value":', b'"value":1') if each == line else each for each in lines_of(there)])
        said = await scene.call("trace", name, code=3)
        assert "with other bytes" in said.out
        there.unlink()
        assert "has committed nothing there" in (await scene.call("trace", name, code=0)).out
        await scene.commit()
        said = await scene.call("trace", name, code=3)
        assert f"lmstream run --offsets lm/{record.partition}={record.offset}..{record.offset + 1}" in said.out


async def test_a_point_without_a_row_says_why_and_a_refused_record_has_its_letter(tmp_path):
    async with Scene(tmp_path, bad=(3,)) as scene:
        await scene.deliver()
        await scene.commit()
        said = await scene.call("trace", "lm/0/3:0", "--json", code=0)
        told = json.loads(said.out)
        assert (told["state"], told["letter"]["reason"], told["row"]) == ("letter", "decode.json", None)
        next(scene.dead.rglob("3.json")).unlink()
        said = await scene.call("trace", "lm/0/3:0", code=3)
        assert "refused" in said.out
        assert "no letter names it" in said.out
        said = await scene.call("trace", "lm/0/4:999", code=1)
        assert "there is no ordinal 999" in said.err
        assert "name an ordinal from 0 to" in said.err


async def test_rows_of_a_device_and_an_hour_are_found_with_their_places(tmp_path):
    async with Scene(tmp_path, start=START) as scene:
        await scene.deliver()
        _, line, _ = row_of(scene)
        row = json.loads(line)
        hour = row["ts"][:13]
        wanted = {
            name
            for name, each in scene.rows.items()
            if (found := json.loads(each))["deviceId"] == row["deviceId"] and found["ts"].startswith(hour)
        }
        command = ("trace", "--device", row["deviceId"], "--hour", hour, *SINCE, "--until", "2026-11-01T00:00Z")
        said = await scene.call(*command, "--limit", 1000, "--json", code=0)
        told = [json.loads(each) for each in said.out.splitlines()]
        assert {each["row_id"] for each in told} == wanted
        assert all(each["state"] == "landed" for each in told)
        said = await scene.call(*command, "--metric", row["metric"], code=0)
        assert row["metric"] in said.out
        assert "landed" in said.out


async def test_an_id_that_no_record_has_says_what_was_searched(tmp_path):
    async with Scene(tmp_path) as scene:
        said = await scene.call("trace", f"{'0' * 32}:1", *SINCE, code=1)
        assert "no record has this: 12 records in 1 partitions of lm from 2025-01-01T00:00:00Z on" in said.err


@pytest.mark.parametrize(
    "args", [(), ("x",), ("0:1",), ("--device", "a"), ("--device", "a", "--hour", "now"), ("--hour", "2026-11-29T10")]
)
def test_what_is_no_row_is_refused(cli, args):
    said = cli("trace", *args, "--bootstrap", "x:1", "--topic", "lm", "--group", "g", "--org", "a")
    assert (said.code, said.out) == (2, "")
