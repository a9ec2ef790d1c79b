"""dlq: letters listed, counted, replayed with the same row ids and removed, from a folder, a bucket and a topic."""

import asyncio
import gzip
import json
import os
import sys
import time

import msgspec
import pytest

from lmstream.config import build_letters, load
from lmstream.engine import Engine
from lmstream.lab import KafkaLab
from lmstream.model import DeadLetter, Record
from lmstream.settings import Settings
from lmstream.verification import expectation, verify
from support.buckets import S3
from support.file_records import file_record

HOSTILE = "\x1b[31mred\x1b[0m\n\u202eevil"


def letter(offset, reason="decode.json", **more):
    given = {
        "topic": "lm",
        "partition": 0,
        "timestamp": 1_715_263_558_000 + offset * 1000,
        "value": b"junk",
        "code": "LMS-1002",
    }
    return DeadLetter(offset=offset, reason=reason, **given | more)


def rows_below(folder):
    found = (line for path in folder.rglob("*.gz") for line in gzip.decompress(path.read_bytes()).splitlines())
    return sorted(json.loads(line)["rowId"] for line in found)


@pytest.fixture
def kept(tmp_path):
    """A folder of five letters, one of them hostile, and a file that is none."""
    letters = [
        letter(1),
        letter(2, "value.two", rejected=((3, "value.two"), (5, "point.type"))),
        letter(3, "decode.utf8", partition=4),
        letter(4, topic="other", detail=HOSTILE, key=b"\x1b[2J", headers=((HOSTILE, b"\x07"),)),
        letter(5, "record.kills", value=None, timestamp=-1),
    ]
    config = load(env={}, overrides={"dead_letters.root": str(tmp_path / "dead")})
    asyncio.run(build_letters(config).write(letters))
    (tmp_path / "dead" / "note.json").write_text("a note of somebody")
    return tmp_path / "dead"


def ls(cli, *args):
    said = cli("dlq", "ls", *args, "--json")
    assert said.code == 0, said.err
    return [json.loads(line) for line in said.out.splitlines()]


@pytest.mark.parametrize(
    ("filters", "offsets"),
    [
        ([], {1, 2, 3, 4, 5}),
        (["--reason", "decode.json"], {1, 4}),
        (["--reason", "decode.*"], {1, 3, 4}),
        (["--reason", "value.two", "--reason", "decode.utf8"], {2, 3}),
        (["--topic", "other"], {4}),
        (["--partition", "4"], {3}),
        (["--offset", "2-3", "--offset", "5"], {2, 3, 5}),
        (["--since", "2024-05-09T14:06:01Z", "--until", "2024-05-09T14:06:02Z"], {3}),
        (["--since", "1h"], {5}),
        (["--until", "1h", "--topic", "lm"], {1, 2, 3}),
    ],
)
def test_filters_choose_letters(cli, kept, filters, offsets):
    found = ls(cli, kept, *filters)
    assert {int(each["record"].rpartition("/")[2]) for each in found} == offsets


def test_the_file_s_time_stands_in_where_kafka_s_is_unknown(cli, kept):
    old = time.time() - 3 * 86400
    os.utime(kept / "lm" / "0" / "5.json", (old, old))
    assert not ls(cli, kept, "--since", "1h")
    assert len(ls(cli, kept, "--since", "4d", "--until", "2d")) == 1


def test_a_record_that_was_listed_can_be_pasted(cli, kept, monkeypatch):
    monkeypatch.setenv("LMSTREAM_DEAD_LETTERS__ROOT", str(kept))
    listed = [json.loads(line)["record"] for line in cli("dlq", "ls", "--json").out.splitlines()]
    assert len(listed) > 1
    for record in listed:
        shown = cli("dlq", "show", record)
        assert shown.code == 0
        assert shown.out.startswith(f"{record}  ")
        assert sum(f"{other}  LMS-" in shown.out for other in listed) == 1
    absent = cli("dlq", "show", "lm/0/424242")
    assert (absent.code, absent.out) == (0, "")
    assert absent.err.endswith("no dead letter fits\n")


def test_what_is_listed_and_shown_steers_no_terminal(cli, kept):
    for args in (["ls", kept], ["ls", kept, "--json"], ["show", kept], ["show", kept, "--json"], ["stats", kept]):
        said = cli("dlq", *args)
        assert said.code == 0, said.err
        for bad in ("\x1b", "\u202e", "\x07"):
            assert bad not in said.out + said.err
    shown = cli("dlq", "show", kept, "--reason", "value.two").out
    assert "lm/0/2  LMS-1002 value.two" in shown
    assert "points: 3 value.two, 5 point.type" in shown
    assert "4 bytes, sha256" in shown
    assert "note.json: not a dead letter, skipped" in cli("dlq", "ls", kept).err
    whole = [msgspec.json.decode(line, type=DeadLetter) for line in cli("dlq", "show", kept, "--json").out.splitlines()]
    assert {each.detail for each in whole} == {"", HOSTILE}
    assert len(cli("dlq", "ls", kept, "--json", "--limit", "2").out.splitlines()) == 2


def test_stats_count_by_partition_and_reason(cli, kept):
    said = json.loads(cli("dlq", "stats", kept, "--json").out)
    assert said["letters"] == 5
    groups = {(g["topic"], g["partition"], g["reason"]): g for g in said["groups"]}
    assert groups["lm", 0, "value.two"] == {
        "topic": "lm",
        "partition": 0,
        "reason": "value.two",
        "letters": 1,
        "points": 2,
        "parts": 0,
        "bytes": 4,
        "oldest": "2024-05-09T14:06:00Z",
        "newest": "2024-05-09T14:06:00Z",
    }


def test_purge_says_what_it_would_do_and_does_it_only_when_told(cli, kept):
    before = sorted(kept.rglob("*.json"))
    assert cli("dlq", "purge", kept, "--yes").code == 2
    assert cli("dlq", "purge", kept, "--all", "--reason", "decode.*").code == 2
    said = cli("dlq", "purge", kept, "--reason", "decode.*")
    assert "3 letters would be deleted; give --yes" in said.err
    assert len(said.out.splitlines()) == 3
    assert sorted(kept.rglob("*.json")) == before
    assert "3 letters removed" in cli("dlq", "purge", kept, "--reason", "decode.*", "--yes").err
    assert {each["reason"] for each in ls(cli, kept)} == {"value.two", "record.kills"}
    assert "2 letters removed" in cli("dlq", "purge", kept, "--all", "--yes").err
    assert [each.name for each in kept.rglob("*.json")] == ["note.json"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["ls", "./nowhere"], 1, "no such dead-letter folder"),
        (["ls", "ftp://x"], 2, "expected a folder, s3://BUCKET/PREFIX or kafka://TOPIC"),
        (["ls"], 2, "name the dead letters"),
        (["ls", ".", "--offset", "x"], 2, "--offset x: expected OFFSET or FIRST-LAST"),
        (["ls", ".", "--since", "soon"], 2, "--since soon: expected"),
        (["ls", "kafka://t"], 2, "source.bootstrap is not set"),
        (["replay", ".", "--yes"], 2, "sink.type is not set"),
    ],
)
def test_what_is_wrong_is_one_clear_message(cli, tmp_path, monkeypatch, args, code, said):
    monkeypatch.chdir(tmp_path)
    got = cli("dlq", *args)
    assert (got.code, got.out) == (code, "")
    assert said in got.err
    assert "Traceback" not in got.err


def verified(made, landed, dead):
    """Verdict on the landed rows against what the bundles must become."""
    engine = Engine(Settings(org_id="acme"))
    records = (file_record(each.payload, n) for n, each in enumerate(made))
    return verify((expectation(engine, each, "") for each in records), landed, dead).total


def test_a_first_run_and_the_replay_of_its_letters_together_lose_nothing(cli, bundles, tmp_path):
    folder, made = bundles(12, chaos=0.3)
    landed, dead = tmp_path / "landed", tmp_path / "dead"
    whole = tmp_path / "whole"
    assert (
        cli(
            "run",
            "--topic",
            "files",
            "--files",
            folder,
            "--org",
            "acme",
            "--landed",
            whole,
            "--dead-letters",
            tmp_path / "x",
        ).code
        == 0
    )
    # An organization that no resource has for the first run: every point is refused.
    unset = ["--set", "engine.org_attributes=nobody.sets.it"]
    assert (
        cli(
            "run",
            *unset,
            "--topic",
            "files",
            "--files",
            folder,
            "--landed",
            landed,
            "--dead-letters",
            dead,
            "--set",
            "breaker.records=0",
        ).code
        == 4
    )
    assert not landed.exists() or not rows_below(landed)
    assert verified(made, whole, None).lost == 0
    letters = sorted(dead.rglob("*.json"))
    args = ["dlq", "replay", dead, "--landed", landed]
    said = cli(*args, "--org", "acme")
    assert f"would give {len(rows_below(whole)):,} rows; give --yes" in said.err
    assert "would be refused again" in cli(*args, *unset).err
    assert "organization: none is set" in cli(*args).err
    assert not landed.exists() or not rows_below(landed)
    assert sorted(dead.rglob("*.json")) == letters

    said = cli(*args, "--org", "acme", "--yes", "--purge-delivered")
    assert said.code == 0, said.err
    assert rows_below(landed) == rows_below(whole)
    total = verified(made, landed, dead)
    assert (total.lost, total.phantom, total.duplicate) == (0, 0, 0)
    # What is refused again stays; what was delivered is gone.
    left = [msgspec.json.decode(path.read_bytes(), type=DeadLetter) for path in dead.rglob("*.json")]
    assert f"{len(letters) - len(left)} letters removed" in said.err
    assert all(each.reason != "org.unresolved" for each in left)
    assert cli(*args, "--org", "acme", "--yes").code == 4  # nothing but what is refused for ever
    assert rows_below(landed) == rows_below(whole)


def test_only_rejected_ordinals_are_emitted_and_a_stub_is_passed_over(cli, bundles, tmp_path):
    folder, _ = bundles(1)
    value = (folder / "000.json").read_bytes()
    ids = [
        json.loads(line)["rowId"]
        for line in Engine(Settings(org_id="acme"))
        .fan_out(Record(topic="lm", partition=0, offset=9, timestamp=5, value=value))
        .ndjson()
        .splitlines()
    ]
    letters = [
        letter(9, "value.two", value=value, timestamp=5, rejected=((1, "value.two"), (3, "value.two"))),
        letter(10, "record.kills", value=None),
    ]
    config = load(env={}, overrides={"dead_letters.root": str(tmp_path / "dead")})
    asyncio.run(build_letters(config).write(letters))
    args = ["dlq", "replay", tmp_path / "dead", "--org", "acme", "--landed", tmp_path / "landed", "--yes"]
    said = cli(*args, "--purge-delivered", "--reason", "value.*", "--reason", "record.*")
    assert said.code == 0, said.err
    assert rows_below(tmp_path / "landed") == sorted([ids[1], ids[3]])
    assert "1 letters have no bytes" in said.err
    assert [path.name for path in (tmp_path / "dead").rglob("*.json")] == ["10.json"]


@pytest.mark.slow
def test_letters_in_a_bucket_are_listed_replayed_and_removed(cli, bundles, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    store = S3()
    try:
        folder, made = bundles(4)
        chosen = {
            "type": "letters_s3",
            "bucket": "dlq",
            "prefix": "p",
            "endpoint_url": store.url,
            "region": "us-east-1",
        }
        path = tmp_path / "run.toml"
        path.write_text("[dead_letters]\n" + "".join(f'{k} = "{v}"\n' for k, v in chosen.items()))
        first = ["run", "--topic", "files", "--files", folder, "--config", path, "--landed", tmp_path / "landed"]
        first += ["--set", "engine.org_attributes=nobody.sets.it"]
        said = cli(*first)
        assert said.code == 4, said.err
        assert store.letters().keys() == {f"p/files/{n}/0.json" for n in range(4)}
        at = ["--s3-endpoint-url", store.url, "--s3-region", "us-east-1"]
        assert len(ls(cli, "s3://dlq/p", *at, "--reason", "org.*")) == len(ls(cli, "--config", path)) == 4
        assert ls(cli, "s3://dlq/other", *at) == []
        said = cli(
            "dlq",
            "replay",
            "--config",
            path,
            "--org",
            "acme",
            "--landed",
            tmp_path / "landed",
            "--partition",
            "0",
            "--partition",
            "1",
            "--yes",
            "--purge-delivered",
        )
        assert said.code == 0, said.err
        assert "2 letters removed" in said.err
        assert store.letters().keys() == {"p/files/2/0.json", "p/files/3/0.json"}
        assert "would be deleted" in cli("dlq", "purge", "s3://dlq/p", *at, "--partition", "2").err
        assert "1 letters removed" in cli("dlq", "purge", "s3://dlq/p", *at, "--partition", "2", "--yes").err
        assert "1 letters removed" in cli("dlq", "purge", "--config", path, "--all", "--yes").err
        assert store.letters() == {}
        total = verified(made[:2], tmp_path / "landed", None)
        assert (total.lost, total.phantom) == (0, 0)
    finally:
        store.close()
    gone = cli("dlq", "ls", "--config", path)
    assert (gone.code, "LMS-4008" in gone.err, "Traceback" in gone.err) == (1, True, False)


async def test_letters_in_a_topic_are_listed_counted_and_replayed(cli, bundles, tmp_path):
    _, made = bundles(3)
    letters = [
        letter(n, "org.unresolved", value=each.payload, rejected=((0, "org.unresolved"),))
        for n, each in enumerate(made)
    ]
    async with KafkaLab() as lab:
        await lab.create_topic("dlq")
        chosen = {"type": "letters_kafka", "bootstrap": lab.bootstrap, "topic": "dlq"}
        sink = build_letters(load(env={}, overrides={f"dead_letters.{k}": v for k, v in chosen.items()}))
        for _ in range(2):  # written twice: one more record each, and readers take one
            await sink.write(letters)
        await sink.close()
        path = tmp_path / "run.toml"
        path.write_text("[dead_letters]\n" + "".join(f'{k} = "{v}"\n' for k, v in chosen.items()))
        at = ["kafka://dlq", "--bootstrap", lab.bootstrap]
        for where in (at, ["--config", path]):
            found = await asyncio.to_thread(ls, cli, *where)
            assert [each["record"] for each in found] == ["lm/0/0", "lm/0/1", "lm/0/2"]
        stats = json.loads((await asyncio.to_thread(cli, "dlq", "stats", *at, "--json")).out)
        assert stats["letters"] == 3
        assert (await asyncio.to_thread(cli, "dlq", "show", *at)).out.count("org.unresolved") >= 3
        purge = await asyncio.to_thread(cli, "dlq", "purge", *at, "--all", "--yes")
        assert (purge.code, "its retention deletes them" in purge.err) == (2, True)
        again = ["--org", "acme", "--landed", tmp_path / "landed"]
        said = await asyncio.to_thread(cli, "dlq", "replay", "--config", path, *again)
        assert "3 letters would give 3 rows" in said.err, said.err
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lmstream", "dlq", "replay", *map(str, [*at, *again, "--yes"])),
            *("--dead-letters", str(tmp_path / "dead")),
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            _, said = await process.communicate()
        assert process.returncode == 0, said.decode()
    assert len(rows_below(tmp_path / "landed")) == 3
