"""`lmstream up` as a user has it: every other verb works against it, and a restart continues with what was there."""

import json
import os
import signal
import socket
import stat
import sys
import time
from pathlib import Path

import pytest

from lmstream.cli.up_folder import running_here
from support.quickstart import TARGET, environment, typed
from support.up import PATIENCE, free_port, terminal, until

TOPIC = "lm.metrics.otlp"
LINUX = sys.platform == "linux"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an `up`, and a run that has landed 40 bundles."""
    with terminal(tmp_path_factory.mktemp("up")) as shell:
        shell.env["LMSTREAM_ENDPOINTS__TAP"] = shell.tap = f"127.0.0.1:{free_port()}"
        shell.process, shell.told = shell.up()
        shell.publish = shell.verb("publish", "--count", 40, "--poison", 0.1, "--verifiable", "log.jsonl", "--json")
        assert shell.publish.returncode == 0, shell.publish.stderr
        shell.run = shell.begin("run")
        until(lambda: settled(shell, shell.run), "all is committed")
        yield shell


def settled(shell, run):
    assert run.poll() is None, run.log.read_text()
    lines = [json.loads(line) for line in shell.well("lag", "--json").splitlines()]
    return all(each["records"] == 0 for each in lines)


def verdict(text):
    """The counts of a verdict."""
    line = next(line for line in text.splitlines() if line.startswith("verified: "))
    return {name: int(count) for name, count in (part.split("=") for part in line.split()[1:])}


@pytest.mark.slow
def test_every_verb_works_against_it_as_in_production(place):
    landed, letters = "lmstream-up/landed", "lmstream-up/dead-letters"
    published = json.loads(place.publish.stdout)
    log = [json.loads(line) for line in (place.folder / "log.jsonl").read_text().splitlines()]
    assert published["bundles"] == len(log) == 40
    checked = place.well("validate", "--connect")
    assert " 0 failed" in checked
    assert "stream's jq query: is the engine's" in checked
    good = next(each for each in log if not each.get("poison") and each["points"])
    shown = place.well("inspect", f"{TOPIC}/{good['partition']}/{good['offset']}", "--rows")
    assert f"{good['bundleId']}:{good['points'] - 1}" in shown
    places = ("--landed", landed, "--dead-letters", letters, "--settle", 5)
    found = verdict(place.well("verify", "--topic", TOPIC, *places))
    assert (found["lost"], found["landed"]) == (0, published["rows"])
    assert verdict(place.well("verify", "--settle", 5)) == found, "places and topics are in the configuration"
    bucket = ("--landed", "s3://landed", "--s3-endpoint-url", place.told["s3"])
    assert verdict(place.well("verify", "--expected", "log.jsonl", *bucket))["landed"] == published["rows"]
    counted = json.loads(place.well("query", "select count(*) as n from rows", "--landed", landed, "--json"))
    assert counted == {"n": published["rows"]}
    assert place.well("health", "--ready").startswith("ok")
    kept = place.well("dlq", "ls", letters, "--json").splitlines()
    assert len(kept) == sum(bool(each.get("poison") or each.get("rejected")) for each in log) > 0
    assert place.verb("topic", "--topic", "lm.other", "--copies", 1, "--yes").returncode == 0
    again = place.verb("topic", "--topic", "lm.other", "--copies", 1)
    assert (again.returncode, again.stderr) == (0, "lm.other is as requested\n")


@pytest.mark.slow
def test_a_running_host_is_tapped_and_is_in_the_table_of_members(place):
    listening = place.begin("tap", "--metric", "Cpu*", "--count", 5, "--mask", "deviceName", "--rate", 100)
    ends = time.monotonic() + PATIENCE
    while listening.poll() is None:  # it sees what is published from now on
        assert time.monotonic() < ends, listening.log.read_text()
        place.well("publish", "--count", 5)
    said = listening.log.read_text().splitlines()
    rows = [json.loads(line) for line in said if line.startswith("{")]
    assert listening.returncode == 0
    assert len(rows) == 5
    assert {row["deviceName"] for row in rows} == {"***"}
    assert all(row["metric"].startswith("Cpu") for row in rows)
    (member,) = map(json.loads, place.well("top", "--once", "--json").splitlines())
    assert (member["pid"], member["group"], member["partitions"]) == (place.run.pid, "acme-rows", 4)
    assert member["rows"] > 0
    gone = place.verb("top", "--once", place.env["LMSTREAM_ENDPOINTS__ADDRESS"], "127.0.0.1:1")
    assert gone.returncode == 1
    lines = gone.stdout.splitlines()
    assert "1 of 2 do not answer" in lines[0]
    assert lines[3].startswith("127.0.0.1:1 "), "who does not answer is the first"
    nobody = place.verb("tap", "--address", "127.0.0.1:1")
    assert nobody.returncode == 1
    assert 'set endpoints.tap = "127.0.0.1:9474" on the host' in nobody.stderr


def test_a_second_one_in_the_folder_is_refused_with_the_pid_of_the_first(place):
    done = place.verb("up")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"runs in lmstream-up already: pid {place.process.pid}" in done.stderr
    assert place.told["pid"] == place.process.pid


def test_all_of_it_listens_on_loopback_and_keys_are_this_users_alone(place):
    for address in (place.told["bootstrap"], place.told["firehose"], place.told["s3"]):
        assert address.removeprefix("http://").startswith("127.0.0.1:")
    up = place.folder / "lmstream-up"
    assert stat.S_IMODE(up.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in (up / "certificates").iterdir()} == {0o600}


def test_publish_goes_to_it_when_no_brokers_are_named(place):
    env = place.env
    place.env = {k: v for k, v in env.items() if not k.startswith(("LMSTREAM_", "AWS_"))}
    try:
        done = place.verb("publish", "--count", 1, "--topic", "lm.mine")
        assert "lmstream-up/lmstream.toml" in done.stderr
        assert "lm.mine" in done.stderr, "its brokers say that there is no such topic"
        elsewhere = place.verb("publish", "--count", 1, "--bootstrap", "127.0.0.1:1", "--topic", "lm.mine")
        assert "lmstream-up" not in elsewhere.stderr
    finally:
        place.env = env


@pytest.mark.slow
@pytest.mark.parametrize("sink", ["firehose", "s3", "local"])
def test_a_restart_continues_where_it_was_on_the_same_ports(tmp_path, sink):
    with terminal(tmp_path) as shell:
        up, first = shell.up("--sink", sink)
        certificate = (tmp_path / "lmstream-up/certificates/client.pem").read_bytes()
        rows = json.loads(shell.well("publish", "--count", 30, "--json"))["rows"]
        run = shell.begin("run")
        until(lambda: settled(shell, run), "all is committed")
        assert shell.stop(up, signal.SIGINT) == 0, up.log.read_text()
        assert "stopped" in up.log.read_text()
        up, second = shell.up()
        assert {**second, "pid": 0} == {**first, "pid": 0}
        assert (tmp_path / "lmstream-up/certificates/client.pem").read_bytes() == certificate
        # The run that was there all the time is well again, and what is published now lands behind the rest.
        rows += json.loads(shell.well("publish", "--count", 10, "--json"))["rows"]
        until(lambda: settled(shell, run), "all is committed again")
        assert shell.stop(run) == 0, run.log.read_text()
        found = verdict(shell.well("verify", "--topic", TOPIC, "--landed", "lmstream-up/landed", "--settle", 5))
        assert (found["lost"], found["landed"], found["duplicate"]) == (0, rows, 0)
        assert shell.stop(up) == 0


@pytest.mark.slow
def test_a_port_that_is_taken_is_replaced_and_the_configuration_says_so(tmp_path):
    with terminal(tmp_path) as shell:
        up, first = shell.up()
        assert shell.stop(up) == 0
        host, port = first["bootstrap"].split(":")
        with socket.create_server((host, int(port))):
            up, second = shell.up()
        assert second["bootstrap"] != first["bootstrap"]
        assert second["s3"] == first["s3"]
        config = Path(second["config"])
        assert second["bootstrap"] in config.read_text()
        assert "taken by somebody else" in up.log.read_text()
        assert shell.stop(up) == 0
        config.write_text(config.read_text().replace("acme-rows", "mine"))
        with socket.create_server(("127.0.0.1", int(second["bootstrap"].split(":")[1]))):
            up, third = shell.up()
        assert "mine" in config.read_text(), "what the user wrote stays"
        assert second["bootstrap"] in config.read_text()
        said = up.log.read_text()
        assert "is changed by you and stays" in said
        assert third["bootstrap"].split(":")[1] in said


@pytest.mark.slow
@pytest.mark.skipif(not LINUX, reason="elsewhere a broker outlives a parent that is killed")
def test_a_kill_leaves_nothing_running_and_the_records_are_there_again(tmp_path):
    with terminal(tmp_path) as shell:
        up, first = shell.up()
        shell.well("publish", "--count", 20)
        up.kill()
        up.wait()
        up, second = shell.up()
        assert second["bootstrap"] == first["bootstrap"]
        lines = [json.loads(line) for line in shell.well("lag", "--json").splitlines()]
        assert sum(each["end"] for each in lines) == 20
        broker = children(up.pid)
        assert len(broker) == 1
        os.kill(broker[0], signal.SIGKILL)  # it is started again, with what it held
        until(lambda: "runs again" in up.log.read_text(), "the broker is back")
        lines = [json.loads(line) for line in shell.well("lag", "--json").splitlines()]
        assert sum(each["end"] for each in lines) == 20
        assert shell.stop(up) == 0
        assert not children(up.pid)


def children(pid):
    found = Path("/proc").glob("[0-9]*/stat")
    parents = {int(each.parent.name): each.read_text(errors="replace").rpartition(")")[2].split()[1] for each in found}
    return [child for child, parent in parents.items() if parent == str(pid)]


def test_what_a_folder_was_made_with_stays(tmp_path):
    with terminal(tmp_path) as shell:
        up, _ = shell.up("--sink", "local", "--topic", "lm.mine", "--partitions", 2)
        assert shell.stop(up) == 0
        done = shell.verb("up", "--sink", "firehose")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--sink firehose: lmstream-up was made with --sink local" in done.stderr
        (tmp_path / "production").mkdir()
        (tmp_path / "production/lmstream.toml").write_text("[engine]\norg_id = 'acme'\n")
        done = shell.verb("up", "--dir", "production")
        assert done.returncode == 2
        assert "not empty and not from an earlier `lmstream up`" in done.stderr
        assert [each.name for each in (tmp_path / "production").iterdir()] == ["lmstream.toml"]


@pytest.mark.slow
def test_the_commands_it_prints_work_as_printed(tmp_path):
    with terminal(tmp_path) as shell:
        up = shell.begin("up", "--dir", "my lab")
        until(lambda: "Ctrl-C" in up.log.read_text(), "up is ready")
        lines = [line.strip() for line in up.log.read_text().splitlines() if line.startswith("  ")]
        assert [line.split()[1] for line in lines[1:]] == ["publish", "run", "query", "verify"]
        run = lines.pop(2)
        done = shell.script("\n".join(lines[:2]))
        assert done.returncode == 0, done.stderr
        running = shell.starting(["sh", "-c", f"{lines[0]}\nexec {run}"], "run")
        shell.source(tmp_path / "my lab/env")
        until(lambda: settled(shell, running), "all is committed")
        assert shell.stop(running) == 0
        until(lambda: list((tmp_path / "my lab/landed").rglob("*.gz")), "the first object")
        done = shell.script("\n".join([lines[0], *lines[2:]]))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "verified: lost=0" in done.stdout


def test_it_is_found_while_it_runs_and_not_afterwards(tmp_path, monkeypatch):
    with terminal(tmp_path) as shell:
        up, told = shell.up()
        monkeypatch.chdir(tmp_path)
        assert running_here().resolve() == Path(told["config"])
        monkeypatch.chdir(tmp_path / "lmstream-up")
        assert running_here().resolve() == Path(told["config"])
        assert shell.stop(up) == 0
        assert running_here() is None


@pytest.mark.slow
def test_without_a_broker_of_this_platform_bundles_come_from_files(tmp_path):
    with terminal(tmp_path) as shell:
        shell.env["CALF_TANSU_BIN"] = str(tmp_path / "other platform's")
        (tmp_path / "other platform's").write_bytes(b"\x7fELF of somebody else")
        (tmp_path / "other platform's").chmod(0o755)
        up, _ = shell.up()
        assert "no Kafka broker runs on this machine" in up.log.read_text()
        counts = json.loads(shell.well("run", "--json"))
        assert counts["records"] == 300
        assert counts["rows"] > 1000
        assert shell.stop(up) == 0
        again, _ = shell.up()  # as it was
        assert shell.stop(again) == 0
        demo = shell.verb("demo", "--bundles", 20)
        assert demo.returncode == 0, demo.stderr
        assert "no Kafka broker runs on this machine" in demo.stderr
        assert "20 bundles became" in demo.stdout
        assert "verify" not in demo.stdout


@pytest.mark.slow
def test_the_quickstart_works_as_written(tmp_path):
    """Without its installation: tests/support/quickstart.py types that too."""
    here = str(Path(sys.executable).parent)
    more = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": f"{here}:{os.environ['PATH']}"}
    more["LMSTREAM_ENDPOINTS__ADDRESS"] = f"127.0.0.1:{free_port()}"
    said = []
    first, _ = typed(tmp_path, environment(tmp_path, **more), install=False, say=said.append)
    assert first < TARGET
    assert sum("verified: lost=0" in line for line in said) == 2


@pytest.mark.slow
@pytest.mark.parametrize("sink", ["firehose", "s3", "local"])
def test_in_bad_weather_no_row_is_lost(tmp_path, sink):
    with terminal(tmp_path) as shell:
        up, _ = shell.up("--sink", sink, "--chaos", "--seed", 11, "--partitions", 2)
        run = shell.begin("run")
        published = shell.begin(
            "publish", "--rate", 10, "--duration", 45, "--verifiable", "log.jsonl", "--poison", "0.02"
        )
        until(lambda: published.poll() is not None, "all is published", 150)
        until(lambda: settled(shell, run), "all is committed", 150)
        assert shell.stop(run) == 0, run.log.read_text()
        said = up.log.read_text()
        assert said.count("weather:") >= 1, said
        assert shell.stop(up) == 0
        again, _ = shell.up()  # in fair weather, to verify
        places = ("--landed", "lmstream-up/landed", "--dead-letters", "lmstream-up/dead-letters", "--settle", 5)
        found = verdict(shell.well("verify", "--topic", TOPIC, *places))
        assert (found["lost"], found["letters_missing"]) == (0, 0)
        assert found["landed"] > 5000
        assert found["duplicate"] == 0 or sink != "s3", "a lake lands each row once"
        assert shell.stop(again) == 0
