"""`make rehearsal`: deploy the data and transform stacks into an AWS on this machine, and call the function.

MiniStack shows that the templates deploy with the real CDK CLI, and that the function they make runs and puts rows into
the stream they make. It does not show the partitioning, which it knows in part only: tests/test_firehose.py does that.
"""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CLI = os.environ.get("CDK_CLI_PATH") or str(Path(sys.prefix) / "lib/node_modules/aws-cdk/bin/cdk")
PATIENCE = 60.0  # seconds for MiniStack to answer
STACKS = ("rehearsal-data", "rehearsal-transform")
SETTINGS = """\
name = "rehearsal"
account = "000000000000"
certificate_secret = "arn:aws:secretsmanager:us-west-2:000000000000:secret:client-AbCdEf"
[engine]
org_id = "acme"
[cluster]
arn = "arn:aws:kafka:us-west-2:000000000000:cluster/theirs/11111111-2222-3333-4444-555555555555-1"
[bucket]
name = "rehearsal-metrics"
[stream]
name = "rehearsal-rows"
[transform]
architecture = "x86_64"
"""
BUNDLE = {
    "resourceMetrics": [
        {
            "resource": {"attributes": [{"key": "hostId", "value": {"stringValue": "42"}}]},
            "scopeMetrics": [
                {
                    "scope": {"name": "CPU"},
                    "metrics": [
                        {
                            "name": "CpuUsage",
                            "gauge": {"dataPoints": [{"timeUnixNano": "1715263558360000000", "asDouble": 12.5}]},
                        }
                    ],
                }
            ],
        }
    ]
}


def say(text: str) -> None:
    """Tell of a step."""
    sys.stderr.write(f"{text}\n")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def ministack(folder: Path, program: str, **settings: str) -> Iterator[str]:
    """Run MiniStack on loopback; gives its URL, and ends it and what it started. With PERSIST_STATE it may end by
    itself first, for it writes then."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # IOT_MTLS_ENABLED: its MQTT port would listen on all interfaces.
    env = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "IOT_MTLS_ENABLED": "0", "LAMBDA_EXECUTOR": "local"}
    env |= settings
    with (folder / "ministack.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            [program],
            env={**os.environ, **env},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{url}/_ministack/health", timeout=2).close()  # noqa: S310 - http
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(
                        f"MiniStack does not answer: {(folder / 'ministack.log').read_text()[-2000:]}"
                    ) from None
                time.sleep(0.2)
            else:
                break
        yield url
    finally:
        if "PERSIST_STATE" in settings:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cdk(*arguments: str, env: dict[str, str]) -> None:
    """Run the CDK CLI."""
    began = time.monotonic()
    command = ["node", CLI, *arguments, "--no-notices"]
    done = subprocess.run(command, env=env, cwd=HERE, capture_output=True, text=True, check=False)  # noqa: S603
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "✅" in line or " | " in line]
    for line in lines[-200:]:
        if "✅" in line:
            say(f"  {line.strip()}")
    say(f"cdk {' '.join(arguments)}: exit {done.returncode} in {time.monotonic() - began:.1f} s")
    if done.returncode:
        raise SystemExit(f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}")


def zip_for_here(folder: Path) -> None:
    """The function's zip with the wheels of this interpreter: MiniStack runs it with that."""
    sys.path.insert(0, str(ROOT / "adapters/lambda"))
    import build_zip  # noqa: PLC0415 - lies beside the handlers, and is no package

    build_zip.fill(folder / "tree", None)
    build_zip.pack(folder / "tree", folder / "lmstream-lambda-x86_64.zip")


def deploy(*arguments: str, env: dict[str, str]) -> tuple[int, str]:
    """What `make deploy` does: exit code and what it said."""
    began = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own arguments
        [sys.executable, str(HERE / "deploy.py"), CLI, *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.strip()]
    say(
        "\n".join(line for line in said if "✅" in line or line.startswith(("refused", "note")) or done.returncode == 1)
    )
    say(f"make deploy {' '.join(arguments)}: exit {done.returncode} in {time.monotonic() - began:.1f} s")
    return done.returncode, done.stdout


def refuse(folder: Path, env: dict[str, str]) -> None:
    """Change what cannot be changed: the deploy is refused before AWS is asked for anything."""
    path = folder / "deployment.toml"
    path.write_text(SETTINGS.replace('name = "rehearsal-metrics"', 'name = "rehearsal-others"'))
    code, said = deploy(*STACKS, "--require-approval=never", env=env)
    if code != 2 or "refused: bucket.name: AWS would have to replace what is deployed" not in said:  # noqa: PLR2004
        raise SystemExit("another name of the bucket was not refused")


def call(url: str) -> None:
    """Call the deployed function with a Pipe's event: a good record and one that is no bundle."""
    record = {"eventSource": "aws:kafka", "topic": "lm.metrics.otlp", "partition": "0", "timestamp": 1715263558360}
    event = [
        {**record, "offset": offset, "value": base64.b64encode(value).decode()}
        for offset, value in enumerate([json.dumps(BUNDLE).encode(), b"junk"])
    ]
    region = "us-west-2"
    answer = boto3.client("lambda", region_name=region, endpoint_url=url).invoke(
        FunctionName="rehearsal", Payload=json.dumps(event).encode()
    )
    said = json.loads(answer["Payload"].read())
    say(f"the function answers {said}")
    if answer.get("FunctionError") or said != {"records": 2}:
        raise SystemExit("the function did not take the event")
    s3 = boto3.client("s3", region_name=region, endpoint_url=url)
    listed = s3.list_objects_v2(Bucket="rehearsal-metrics-dead-letters").get("Contents", [])
    letters = [each["Key"] for each in listed if each["Key"].endswith(".json")]
    say(f"dead letters: {letters}")
    if letters != ["dead-letters/lm.metrics.otlp/0/1.json"]:
        raise SystemExit("the record that is no bundle has no letter")
    end = time.monotonic() + PATIENCE
    while not (rows := s3.list_objects_v2(Bucket="rehearsal-metrics").get("Contents", [])):
        if time.monotonic() > end:
            raise SystemExit("no row landed")
        time.sleep(0.2)
    say(f"landed: {[each['Key'] for each in rows]}")


def main() -> None:
    """Rehearse, from nothing to a row."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "deployment.toml").write_text(SETTINGS)
        zip_for_here(folder)
        with ministack(folder, sys.argv[1]) as url:
            env = os.environ | {
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-west-2",
                "AWS_EC2_METADATA_DISABLED": "true",
                "LMSTREAM_DEPLOYMENT": str(folder / "deployment.toml"),
                "LMSTREAM_ZIPS": str(folder),
                "CDK_OUTDIR": str(folder / "cdk.out"),
            }
            os.environ |= {name: env[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
            out = str(folder / "cdk.out")
            cdk("bootstrap", "aws://000000000000/us-west-2", "--output", out, env=env)
            if deploy(*STACKS, "--require-approval=never", env=env)[0]:
                raise SystemExit("the stacks do not deploy")
            try:
                call(url)
                refuse(folder, env)
            except (Exception, SystemExit):
                say((folder / "ministack.log").read_text()[-3000:])
                raise
    say("rehearsed: the stacks deploy, the function runs, a row and a dead letter are where they belong,")
    say("and what AWS cannot change is refused")


if __name__ == "__main__":
    main()
