"""`verify` of a topic that was read with other settings before: each record is judged by the settings it was read with."""

import asyncio
import json
from itertools import islice

import pytest
from aiokafka import AIOKafkaProducer

from lmstream import Engine
from lmstream.cli import main
from lmstream.config import load
from lmstream.kafka.range_reader import read_range
from lmstream.kafka.settings import Settings
from lmstream.lab import KafkaLab
from lmstream.lab.generator import Generator

OLD, NEW = '[engine]\norg_id = "acme"\nsource_id = "east"\n', '[engine]\norg_id = "acme inc"\n'


@pytest.fixture
async def scene(tmp_path):
    """Eight records of one partition, landed with the old settings below offset 5 and with the new from there on."""
    files = {"old": tmp_path / "a folder" / "old.toml", "new": tmp_path / "a folder" / "new.toml"}
    files["old"].parent.mkdir()
    files["old"].write_text(OLD)
    files["new"].write_text(NEW)
    async with KafkaLab() as lab:
        await lab.create_topic("lm", 1)
        producer = AIOKafkaProducer(bootstrap_servers=lab.bootstrap)
        await producer.start()
        for bundle in islice(Generator(instances=2).bundles(), 8):
            await producer.send_and_wait("lm", bundle.payload, partition=0)
        await producer.stop()
        engines = {name: Engine(load(path, env={}).engine) for name, path in files.items()}
        async for record in read_range(Settings(bootstrap=lab.bootstrap, topics=("lm",)), "lm", {0: (None, None)}):
            for group in engines["old" if record.offset < 5 else "new"].fan_out(record).groups:
                (tmp_path / "landed" / group.path).mkdir(parents=True, exist_ok=True)
                (tmp_path / "landed" / group.path / f"{record.offset}").write_bytes(group.data)

        async def verify(*configs):
            flags = [part for each in configs for part in ("--config", each.format(**files))]
            landed = str(tmp_path / "landed")
            command = [
                "verify",
                "--topic",
                "lm",
                "--group",
                "g",
                "--bootstrap",
                lab.bootstrap,
                "--landed",
                landed,
                "--to",
                "0=8",
            ]
            command += ["--json", *flags]
            return await asyncio.to_thread(main, command)

        yield verify, files


@pytest.mark.parametrize("records", ["lm/0=..5", "lm/0=0..5", "lm=..5"])
async def test_each_record_is_judged_by_the_settings_it_was_read_with(scene, capsys, records):
    verify, _ = scene
    assert await verify("{new}", f"{{old}}@{records}") == 0
    total = json.loads(capsys.readouterr().out)["total"]
    assert total["landed"] == total["expected"] > 0


@pytest.mark.parametrize(
    "configs", [("{new}",), ("{old}",), ("{new}", "{old}@lm/0=..4"), ("{new}", "{old}@lm"), ("{new}", "{old}@ml/0=..5")]
)
async def test_a_record_that_is_judged_by_other_settings_is_no_success(scene, capsys, configs):
    verify, _ = scene
    assert await verify(*configs) == 3
    total = json.loads(capsys.readouterr().out)["total"]
    assert total["lost"] + total["changed"] > 0


async def test_the_variable_names_one_file_whatever_is_in_its_path(scene, monkeypatch, capsys):
    verify, files = scene
    monkeypatch.setenv("LMSTREAM_CONFIG", str(files["new"]))
    assert await verify() == 3
    assert json.loads(capsys.readouterr().out)["total"]["changed"] == 0  # another source_id is another row


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--config", "a.toml", "--config", "b.toml"], "say which records it is for, as in b.toml@TOPIC/0=..1200"),
        (["--config", "a.toml@lm/0=5"], "expected FILE@TOPIC/PARTITION=FROM..TO"),
        (["--config", "a.toml@lm/x=..5"], "expected FILE@TOPIC/PARTITION=FROM..TO"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path, capsys, flags, said):
    command = [
        "verify",
        "--topic",
        "lm",
        "--group",
        "g",
        "--bootstrap",
        "127.0.0.1:1",
        "--landed",
        str(tmp_path),
        *flags,
    ]
    assert main(command) == 2
    assert said in capsys.readouterr().err
