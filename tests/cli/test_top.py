"""`top`: who is in danger is on top, at 80 columns too."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lmstream.cli import main
from lmstream.cli.top import Member, in_order


def partition(number, lag=0, loss=None):
    return {"topic": "lm", "partition": number, "lag_records": lag, "lag_seconds": 2.0 * lag, "loss_seconds": loss}


def status(pid, partitions, *, ready=True, rows=1000):
    return {
        "pid": pid,
        "group": "acme-rows",
        "state": "running",
        "ready": ready,
        "why": "running" if ready else "paused: LMS-4003 access denied",
        "up_seconds": 100.0,
        "assignment": partitions,
        "counts": {"rows_accepted": rows, "dead_letters": 3},
        "in_flight": {"bytes": 1 << 20, "budget_bytes": 64 << 20},
    }


@contextmanager
def serving(*answers):
    """Members that answer these, one after the other; their addresses."""
    servers = []
    for answer in answers:

        class Handler(BaseHTTPRequestHandler):
            left = list(answer) if isinstance(answer, list) else [answer]

            def do_GET(self):
                assert self.path == "/statusz"
                body = self.left.pop(0) if len(self.left) > 1 else self.left[0]
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
    try:
        yield [f"127.0.0.1:{server.server_address[1]}" for server in servers]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def test_the_member_whose_rows_are_lost_first_is_on_top(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    safe = status(1, [partition(0)])
    behind = status(2, [partition(1, 10, 86_400.0 * 3), partition(2, 5_000, 5400.0)], ready=False)
    with serving(safe, behind) as at:
        assert main(["top", *at, "--once"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"90.0 min to data loss, in lm/2 at {at[1]}; 20 rows/s, 5,010 records wait"
    assert [line.split()[0] for line in lines[3:]] == [at[1], at[0]]
    assert "not ready" in lines[3]
    assert all(len(line) <= 80 for line in lines[1:])


def test_json_has_a_line_for_each_with_all_that_the_table_has(capsys):
    with serving(status(2, [partition(2, 5_000, 5400.0)])) as at:
        assert main(["top", *at, "--once", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["loss_seconds"] == 5400.0
    assert (found["loss_partition"], found["lag_records"], found["rows_per_second"]) == ("lm/2", 5000, 10.0)


def test_the_rate_is_that_since_the_last_look_unless_the_process_is_another_one(capsys, monkeypatch):
    looks = iter([None, None, KeyboardInterrupt])

    def sleep(_):
        if (ends := next(looks)) is not None:
            raise ends

    monkeypatch.setattr("lmstream.cli.top.time.sleep", sleep)
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("lmstream.cli.top.time.monotonic", lambda: next(clock))
    answers = [status(1, [], rows=1000), status(1, [], rows=1500), status(7, [], rows=2000)]
    with serving(answers) as at:
        assert main(["top", *at, "--json"]) == 0, "Ctrl-C is how it ends"
    rates = [json.loads(line)["rows_per_second"] for line in capsys.readouterr().out.splitlines()]
    assert rates[0] == 10.0
    assert 20 <= rates[1] <= 50
    assert rates[2] == 20.0


def test_who_does_not_answer_or_is_no_member_is_first_and_ends_it_with_1(capsys):
    with serving(b"<html>", {"a": 1}, status(1, [])) as at:
        assert main(["top", *at, "127.0.0.1:1", "--once", "--wide"]) == 1
    out = capsys.readouterr().out
    assert "3 of 4 do not answer" in out
    assert out.count("no answer") == 3
    assert "it is not lmstream" in out
    assert out.splitlines()[-1].startswith(at[2])


def test_the_configuration_says_where_workers_are(capsys, tmp_path):
    config = tmp_path / "lmstream.toml"
    with serving(status(1, [])) as at:
        config.write_text(f"[endpoints]\naddress = '{at[0]}'\n")
        assert main(["top", "--config", str(config), "--once"]) == 0
        assert main(["top", "--config", str(config), "--set", "run.workers=2", "--once", "--json"]) == 1
    port = int(at[0].split(":")[1])
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert {each["address"] for each in said} == {at[0], f"127.0.0.1:{port + 1}"}


def test_the_order_is_of_danger():
    late = Member(address="c", loss_seconds=10.0)
    taken = Member(address="d", loss_seconds=-5.0)
    lag = Member(address="a", lag_records=5)
    well = Member(address="b")
    gone = Member(address="z", error="refused")
    assert in_order([well, lag, late, taken, gone]) == [gone, taken, late, lag, well]
