"""The container host without Docker: its entry point runs, and every file around it is held to the schema of who reads it.

What nobody can start here (image, compose, Kubernetes, ECS) is judged by hadolint, the compose specification, Kubernetes'
own schemas and the ECS API's model; and what these files say of each other and of lmstream is compared.
"""

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import botocore.session
import kubernetes_validate
import pytest
import yaml
from botocore.validate import ParamValidator

from lmstream.config import load
from lmstream.lab import KafkaLab
from lmstream.observability.endpoints import USUAL

ROOT = Path(__file__).parents[3]
HERE = ROOT / "adapters/container"
TOOLS = Path(sys.executable).parent
PORT = int(USUAL.rpartition(":")[2])
CLOSE = 25 + 4  # seconds: runtime.grace, and what the last resort adds to it
PLAIN = {k: v for k, v in os.environ.items() if not k.startswith(("LMSTREAM_", "AWS_"))}
DOCKERFILE = (HERE / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((HERE / "compose.yaml").read_text("utf-8"))
KUBERNETES = {each["kind"]: each for each in yaml.safe_load_all((HERE / "kubernetes/lmstream.yaml").read_text("utf-8"))}
KEDA = {each["kind"]: each for each in yaml.safe_load_all((HERE / "kubernetes/keda.yaml").read_text("utf-8"))}
TASK = json.loads((HERE / "ecs-task.json").read_text("utf-8"))
POD = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
(TASK_CONTAINER,) = TASK["containerDefinitions"]


def tool(name, *args):
    done = subprocess.run([TOOLS / name, *args], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- the schemas of who reads the files --------------------------------------------------------------------------


def test_hadolint_has_no_complaint():
    tool("hadolint", "--failure-threshold", "info", HERE / "Dockerfile")


def test_hadolint_would_complain(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN cd /tmp && sudo ls\n")
    with pytest.raises(AssertionError, match="DL3004"):
        tool("hadolint", tmp_path / "Dockerfile")


def test_the_compose_file_is_one():
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", HERE / "compose.yaml")


@pytest.mark.parametrize("kind", KUBERNETES)
def test_kubernetes_would_take_every_object(kind):
    kubernetes_validate.validate(KUBERNETES[kind], kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_would_not_take_a_wrong_one():
    wrong = json.loads(json.dumps(KUBERNETES["Deployment"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_ecs_would_take_the_task_definition():
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    assert not ParamValidator().validate(TASK, shape).has_errors()
    assert ParamValidator().validate({**TASK, "cpuu": "1"}, shape).has_errors()


# --- what they say of lmstream and of each other -----------------------------------------------------------------


def settings_of_kubernetes():
    return KUBERNETES["ConfigMap"]["data"]


def settings_of_ecs():
    return {each["name"]: each["value"] for each in TASK_CONTAINER["environment"]}


def settings_of_compose():
    return COMPOSE["services"]["lmstream"]["environment"]


@pytest.mark.parametrize("settings", [settings_of_kubernetes, settings_of_ecs, settings_of_compose])
def test_every_setting_in_them_is_one_of_ours(settings):
    config = load(env=settings() | defaults())
    assert config.need("source").name == "kafka"
    assert config.need("sink").name in {"firehose", "local"}
    assert config.dead_letters is not None
    assert config.engine.org_id == "acme"


def test_a_pod_and_compose_remember_over_which_record_their_container_died():
    folder = Path(settings_of_kubernetes()["LMSTREAM_RUN__STATE_DIR"])
    (mount,) = [each for each in CONTAINER["volumeMounts"] if Path(each["mountPath"]) in folder.parents]
    assert not mount.get("readOnly")
    assert "emptyDir" in next(each for each in POD["volumes"] if each["name"] == mount["name"])
    letters = Path(settings_of_compose()["LMSTREAM_DEAD_LETTERS__ROOT"])  # in which .state is, unless told otherwise
    named = [each.split(":") for each in COMPOSE["services"]["lmstream"]["volumes"]]
    assert [name for name, at in named if Path(at) in letters.parents] == list(COMPOSE["volumes"])


def defaults():
    source = (HERE / "entrypoint.py").read_text("utf-8")
    found = dict(re.findall(r'"(LMSTREAM_\w+)": "([^"]+)"', source))
    assert len(found) == 3
    return found


def test_endpoints_are_where_probes_health_checks_and_ports_look():
    assert defaults()["LMSTREAM_ENDPOINTS__ADDRESS"] == f"0.0.0.0:{PORT}"
    assert f"EXPOSE {PORT}\n" in DOCKERFILE
    assert CONTAINER["ports"] == [{"name": "metrics", "containerPort": PORT}]
    assert KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(PORT)
    probes = {name: CONTAINER[name]["httpGet"] for name in CONTAINER if name.endswith("Probe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == {"metrics"}
    assert TASK_CONTAINER["portMappings"] == [{"containerPort": PORT, "protocol": "tcp"}]
    assert COMPOSE["services"]["lmstream"]["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    (check,) = re.findall(r"CMD (\[\"lmstream\", \"health\".*\])", DOCKERFILE)
    assert TASK_CONTAINER["healthCheck"]["command"] == ["CMD", *json.loads(check)]
    assert json.loads(check)[-1] == USUAL


DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def test_images_are_named_by_digest_and_not_by_a_tag_that_can_be_moved():
    assert DIGEST.search(CONTAINER["image"])
    assert DIGEST.search(TASK_CONTAINER["image"])
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${BASE}"}
    bases = re.findall(r"^ARG BASE=(\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 1
    others = [each["image"] for each in COMPOSE["services"].values() if "build" not in each]
    assert all(DIGEST.search(image) for image in [*bases, *others])


def test_the_key_of_a_pod_is_read_by_its_group_alone():
    (volume,) = [each for each in POD["volumes"] if each["name"] == "tls"]
    assert volume["secret"]["defaultMode"] == 0o440  # fsGroup would make 0440 of 0400
    assert POD["securityContext"]["fsGroup"] == POD["securityContext"]["runAsGroup"]


def test_only_prometheus_may_ask_the_endpoints():
    policy = KUBERNETES["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == KUBERNETES["Deployment"]["spec"]["selector"]
    assert policy["policyTypes"] == ["Ingress"]
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": PORT}]
    (who,) = rule["from"]
    assert who.keys() == {"namespaceSelector", "podSelector"}  # both, of one and the same: not "or"


def test_a_stop_has_more_time_than_a_clean_close_needs():
    from lmstream.hosts.container.service import LAST
    from lmstream.runtime import RuntimePolicy

    assert RuntimePolicy().grace + LAST == CLOSE
    assert POD["terminationGracePeriodSeconds"] > CLOSE
    assert TASK_CONTAINER["stopTimeout"] > CLOSE
    assert TASK_CONTAINER["stopTimeout"] <= 120, "Fargate takes no more"
    assert int(COMPOSE["services"]["lmstream"]["stop_grace_period"].removesuffix("s")) > CLOSE
    assert "STOPSIGNAL SIGTERM\n" in DOCKERFILE


def test_none_may_write_its_root_file_system_or_gain_rights():
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert (POD["securityContext"]["runAsUser"], POD["securityContext"]["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert TASK_CONTAINER["user"] == f"{user[1]}:{user[2]}"
    assert TASK_CONTAINER["readonlyRootFilesystem"] is True
    assert COMPOSE["services"]["lmstream"]["read_only"] is True
    assert COMPOSE["services"]["lmstream"]["cap_drop"] == ["ALL"]


def test_keda_scales_what_the_deployment_runs():
    (trigger,) = KEDA["ScaledObject"]["spec"]["triggers"]
    settings = settings_of_kubernetes()
    assert trigger["metadata"]["bootstrapServers"] == settings["LMSTREAM_SOURCE__BOOTSTRAP"]
    assert trigger["metadata"]["topic"] == settings["LMSTREAM_SOURCE__TOPICS"]
    assert trigger["metadata"]["consumerGroup"] == settings["LMSTREAM_SOURCE__GROUP"]
    assert KEDA["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == KUBERNETES["Deployment"]["metadata"]["name"]
    assert trigger["authenticationRef"]["name"] == KEDA["TriggerAuthentication"]["metadata"]["name"]
    (secret,) = {each["name"] for each in KEDA["TriggerAuthentication"]["spec"]["secretTargetRef"]}
    volumes = {each["name"]: each for each in POD["volumes"]}
    assert volumes["tls"]["secret"]["secretName"] == secret
    mounted = {each["name"]: each["mountPath"] for each in CONTAINER["volumeMounts"]}
    for name in ("CA", "CERT", "KEY"):
        assert settings[f"LMSTREAM_SOURCE__{name}"].startswith(mounted["tls"] + "/")


def test_the_disruption_budget_is_of_the_deployment():
    labels = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert KUBERNETES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert KUBERNETES["Deployment"]["spec"]["selector"]["matchLabels"] == labels


def test_what_the_image_copies_is_there():
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), line


def test_files_that_run_nowhere_in_ci_say_so():
    for name in ("compose.yaml", "kubernetes/lmstream.yaml", "kubernetes/keda.yaml"):
        assert re.search(r"Not (built|run|applied) in CI", (HERE / name).read_text("utf-8")), name


# --- the entry point, as the image starts it ---------------------------------------------------------------------

# Tells of every file that is opened for writing, and of every folder that is made: a read-only root would refuse them.
WATCH = """
import os, runpy, sys
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        mode, flags = args[1], args[2]
        if (mode and set(str(mode)) & set("wax+")) or (not mode and flags & (os.O_WRONLY | os.O_RDWR)):
            os.write(1, b"WRITES " + os.fsencode(args[0]) + b"\\n")
    elif event in ("os.mkdir", "os.rename"):
        os.write(1, b"WRITES " + os.fsencode(args[0]) + b"\\n")
sys.addaudithook(hook)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


async def answer(address, path):
    def ask():
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://{address}{path}", timeout=5
            ) as found:
                return found.read().decode()
        except OSError:  # a refusal of /readyz too
            return ""

    return await asyncio.to_thread(ask)


async def test_the_entry_point_runs_is_well_writes_only_where_it_may_and_stops(tmp_path, unused_tcp_port_factory):
    address = f"127.0.0.1:{unused_tcp_port_factory()}"
    data, temporary, here = (tmp_path / name for name in ("data", "tmp", "here"))
    for folder in (data, temporary, here):
        folder.mkdir()
    async with KafkaLab(tmp_path / "pem") as lab:
        await lab.create_topic("lm.metrics.otlp", 2)
        env = PLAIN | {
            **settings_of_compose(),
            "LMSTREAM_SOURCE__BOOTSTRAP": lab.bootstrap,
            "LMSTREAM_SOURCE__SESSION_TIMEOUT_MS": "3000",
            "LMSTREAM_SOURCE__HEARTBEAT_INTERVAL_MS": "300",
            "LMSTREAM_SINK__ROOT": str(data / "landed"),
            "LMSTREAM_DEAD_LETTERS__ROOT": str(data / "dead-letters"),
            "LMSTREAM_ENDPOINTS__ADDRESS": address,
            "LMSTREAM_RUN__REPORT_SECONDS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(temporary),
        }
        published = await asyncio.create_subprocess_exec(
            *(sys.executable, HERE / "entrypoint.py", "publish", "--bootstrap", lab.bootstrap),
            *("--topic", "lm.metrics.otlp", "--count", "20", "--poison", "0.2"),
            env=env,
            stderr=subprocess.DEVNULL,
        )
        assert await published.wait() == 0
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WATCH, HERE / "entrypoint.py"),
            env=env,
            cwd=here,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out = asyncio.create_task(process.stdout.read())
        err = asyncio.create_task(process.stderr.read())
        try:
            async with asyncio.timeout(60):
                while not await answer(address, "/readyz") or '"records": 20,' not in await answer(address, "/statusz"):
                    assert process.returncode is None, (await err)[-2000:]
                    await asyncio.sleep(0.2)
                check = [sys.executable, "-m", "lmstream", *shlex.split(f"health --address {address}")]
                health = await asyncio.create_subprocess_exec(*check, env=env, stdout=subprocess.DEVNULL)
                assert await health.wait() == 0
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0, (await err)[-2000:]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    written = {Path(line.removeprefix("WRITES ")) for line in (await out).decode().splitlines()}
    allowed = (data, temporary, Path(os.devnull))
    # Sinks write relative to a folder that they hold open; relative to where the process stands there is nothing.
    assert not {path for path in written if path.is_absolute() and not any(map(path.is_relative_to, allowed))}
    assert any(path.is_relative_to(data) for path in written)
    assert not list(here.iterdir())
    assert list(data.rglob("*.ndjson.gz"))
    assert all(json.loads(line)["event"] for line in (await err).splitlines())


@pytest.mark.slow
def test_the_lock_of_the_image_is_all_that_it_needs(tmp_path):
    """As the Dockerfile does it: the lock; a wheel built with what is pinned, elsewhere; the wheel, and no index."""
    for name in ("env", "build"):
        subprocess.run([sys.executable, "-m", "venv", tmp_path / name], check=True)

    def pip(name, *args):
        command = [tmp_path / name / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", *args]
        subprocess.run(command, check=True)

    hashed = ["install", "--no-compile", "--require-hashes", "--only-binary", ":all:", "-r"]
    pip("env", *hashed, ROOT / "requirements/container.lock")
    pip("build", *hashed, ROOT / "requirements/build.lock")
    wheels = tmp_path / "dist"
    pip("build", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", wheels, ROOT)
    pip("env", "install", "--no-compile", "--no-deps", "--no-index", "--find-links", wheels, "lmstream")
    python = tmp_path / "env/bin/python"
    parts = (
        "lmstream.sources.kafka, lmstream.sinks.firehose, lmstream.dead_letters.letters_s3, lmstream.codecs.otlp_proto"
    )
    verbs = "lmstream.cli.run, lmstream.cli.publish, lmstream.lab.generator, lmstream.cli.log_lines"
    subprocess.run([python, "-W", "error", "-c", f"import {parts}, {verbs}"], check=True, cwd=tmp_path, env=PLAIN)
    done = subprocess.run(
        [python, HERE / "entrypoint.py", "validate"],
        cwd=tmp_path,
        env=PLAIN
        | settings_of_ecs()
        | {"LMSTREAM_SOURCE__CERT": "", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
