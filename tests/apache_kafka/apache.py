"""Apache Kafka for tests: a single KRaft broker with native mTLS on loopback, or a cluster that the environment names."""

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from cryptography.hazmat.primitives import serialization

from lmstream.lab import Certificates
from lmstream.lab.broker import _DIE_WITH_PARENT

HOST = "127.0.0.1"
POM = Path(__file__).with_name("pom.xml")
VERSION = re.search(r"kafka_2\.13</artifactId>\s*<version>([^<]+)", POM.read_text("utf-8"))[1]
BUILD = Path(__file__).parents[2] / "build" / "kafka"
FETCH_SECONDS, START_SECONDS, STOP_SECONDS, ADMIN_SECONDS = 300, 60, 20, 20
JAVA = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
_KAFKA, _FORMAT = ("-Xmx512m", "kafka.Kafka"), ("-Xmx128m", "kafka.tools.StorageTool")


class MissingError(Exception):
    """What must be installed before a broker can run here."""


class Cluster:
    """A cluster that is there already: `bootstrap`, and certificates when it wants TLS."""

    ours = False
    """Whether it may be killed."""
    # Brokers refuse sessions under 6 s by default.
    group = {  # noqa: RUF012 - never changed
        "session_timeout_ms": 6000,
        "heartbeat_interval_ms": 500,
        "rebalance_timeout_ms": 10_000,
        "request_timeout_ms": 20_000,
    }

    def __init__(self, bootstrap, ca="", cert="", key=""):
        self.bootstrap = bootstrap
        self.certificates = SimpleNamespace(ca=ca, client_cert=cert, client_key=key) if ca else None
        self.made = []
        self.about = f"the cluster at {bootstrap}"

    def client_context(self):
        if self.certificates is None:
            return None
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        if self.certificates.client_cert:
            context.load_cert_chain(self.certificates.client_cert, self.certificates.client_key or None)
        return context

    def client(self):
        """Settings of a librdkafka client."""
        options = {"bootstrap.servers": self.bootstrap, "log_level": 0}
        if self.certificates is not None:
            pem = self.certificates
            named = {"ca": pem.ca, "certificate": pem.client_cert, "key": pem.client_key}
            options |= {"security.protocol": "ssl"} | {f"ssl.{k}.location": str(v) for k, v in named.items() if v}
        return options

    def admin(self):
        return AdminClient(self.client())

    async def create_topic(self, name, partitions=1, **config):
        config = {"retention_ms": -1, **config}  # records of tests are from 2023, and would not be kept for long
        topic = NewTopic(name, partitions, config={k.replace("_", "."): str(v) for k, v in config.items()})
        await self._ask(lambda admin: admin.create_topics([topic]))
        self.made.append(name)

    async def add_partitions(self, name, total):
        await self._ask(lambda admin: admin.create_partitions([NewPartitions(name, total)]))

    async def delete_before(self, name, partition, offset):
        await self._ask(lambda admin: admin.delete_records([TopicPartition(name, partition, offset)]))

    async def commit(self, group, topic, partition, offset):
        """Commit for a group without members."""
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition, offset)])
        loading = {KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR}  # the first group of a broker
        async with asyncio.timeout(ADMIN_SECONDS):
            while True:
                (made,) = await self._ask(lambda admin: admin.alter_consumer_group_offsets([asked]))
                wrong = [each.error for each in made.topic_partitions if each.error]
                if not wrong:
                    return
                assert {each.code() for each in wrong} <= loading, wrong
                await asyncio.sleep(0.2)

    async def commits(self, group):
        """The group's commits, by topic and partition."""
        (found,) = await self._ask(
            lambda admin: admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        )
        return {(each.topic, each.partition): each.offset for each in found.topic_partitions}

    async def _ask(self, question):
        admin = self.admin()  # held until all is answered: its futures die with it
        futures = question(admin).values()
        return [await asyncio.wait_for(asyncio.wrap_future(future), ADMIN_SECONDS) for future in futures]

    def close(self):
        """Take back what was made."""
        if self.made:
            admin = self.admin()
            for future in admin.delete_topics(self.made).values():
                with contextlib.suppress(Exception):
                    future.result(ADMIN_SECONDS)


class ApacheKafka(Cluster):
    """One broker and controller in one process, its data in `folder`.

    Listeners: SASL (`sasl`, user lm with password secret, or unsecured tokens, whose connections end after 4 s), BEHIND
    (`behind`, plaintext, which says that it is at `iam_port`: for a stand-in there), MTLS (`bootstrap`, client certificate required), MISNAMED (`misnamed`, as before, but its certificate is
    for another host), PLAIN for the administration, and the controller's.
    """

    ours = True
    group = {  # noqa: RUF012 - never changed
        "session_timeout_ms": 4000,  # a busy machine is no reason to lose a member
        "heartbeat_interval_ms": 300,
        "rebalance_timeout_ms": 8000,
        "request_timeout_ms": 15_000,
    }

    def __init__(self, folder):
        self._folder = folder
        self._jars = fetch()
        self._log = folder / "server.log"
        self._process = None
        mtls, misnamed, plain, controller, sasl, behind, self.iam_port = _free_ports(7)
        super().__init__(f"{HOST}:{mtls}")
        self.plain = f"{HOST}:{plain}"
        self.misnamed = f"{HOST}:{misnamed}"
        self.sasl = f"{HOST}:{sasl}"
        self.behind = f"{HOST}:{behind}"
        self.certificates = Certificates(folder / "pem")
        authority = self.certificates._authority
        self._config = folder / "server.properties"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAIN",
            "listeners": f"MTLS://{self.bootstrap},MISNAMED://{self.misnamed},PLAIN://{self.plain},SASL://{self.sasl},BEHIND://{self.behind},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"MTLS://{self.bootstrap},MISNAMED://{self.misnamed},PLAIN://{self.plain},SASL://{self.sasl},BEHIND://{HOST}:{self.iam_port}",
            "listener.security.protocol.map": "MTLS:SSL,MISNAMED:SSL,PLAIN:PLAINTEXT,SASL:SASL_SSL,BEHIND:PLAINTEXT,CONTROLLER:PLAINTEXT",
            **_sasl(),
            "listener.name.sasl.ssl.keystore.location": _keystore(folder / "sasl.pem", self.certificates._server),
            "listener.name.sasl.ssl.client.auth": "none",
            # Everybody may do everything but where a test makes ACLs; who asks without a certificate may do that too.
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
            "super.users": "User:ANONYMOUS",
            "ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.certificates.ca,
            "listener.name.mtls.ssl.keystore.location": _keystore(folder / "server.pem", self.certificates._server),
            "listener.name.misnamed.ssl.keystore.location": _keystore(
                folder / "misnamed.pem", authority.issue_cert("elsewhere.test")
            ),
            "log.dirs": folder / "data",
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 500,
            # A killed broker may come back when its session has ended.
            "broker.session.timeout.ms": 2000,
            "broker.heartbeat.interval.ms": 200,
            "log.cleaner.backoff.ms": 200,
            "log.cleaner.dedupe.buffer.size": 8 << 20,
            "num.network.threads": 2,
            "num.io.threads": 4,
        }
        for topic in ("offsets.topic", "transaction.state.log"):
            settings |= {f"{topic}.replication.factor": 1, f"{topic}.num.partitions": 1}
        settings["transaction.state.log.min.isr"] = 1
        self._config.write_text("".join(f"{k}={v}\n" for k, v in settings.items()), "utf-8")
        began = time.monotonic()
        self._format()
        self.launch()
        self.wait()
        self.start_seconds = time.monotonic() - began
        self.about = (
            f"Apache Kafka {VERSION}, mTLS at {self.bootstrap}, formatted and started in {self.start_seconds:.1f} s"
        )

    def client(self):
        return {"bootstrap.servers": self.plain, "log_level": 0, "reconnect.backoff.max.ms": 200}

    def _command(self, heap, main, *arguments):
        return ["java", heap, *JAVA, "-cp", f"{self._jars}/*", main, *map(str, arguments)]

    def _format(self):
        command = self._command(*_FORMAT, "format", "-t", "bG1zdHJlYW0tdGVzdHMtMQ", "-c", self._config)
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"the broker's storage cannot be formatted: {done.stdout}{done.stderr}"[-2000:])

    def launch(self):
        """Start the process; only from the main thread, because it dies with the thread that started it."""
        command = self._command(*_KAFKA, self._config)
        wrapped = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), shutil.which("java")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*wrapped, *command[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self):
        """Return once it really answers: a client gets the cluster's metadata, and the group coordinator answers."""
        until = time.monotonic() + START_SECONDS
        admin = self.admin()
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(Exception):
                if admin.list_topics(timeout=1).brokers:
                    return
            time.sleep(0.05)
        said = self._log.read_text("utf-8", "replace")[-3000:]
        raise RuntimeError(f"Apache Kafka did not start (exit code {self._process.poll()}): {said}")

    def stop(self, number=signal.SIGTERM):
        """Stop it cleanly, or with SIGKILL as a machine that dies; `launch` and `wait` bring it back with its data."""
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self):
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGKILL)  # its data goes as well


def fetch():
    """Answer the folder of the broker's jars; fetched once per pom.xml. Raises MissingError when it cannot be had here."""
    java = shutil.which("java")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr if java else ""
    major = re.search(r'version "(\d+)', said)
    if not major or int(major[1]) < 17:
        found = f"found {said.splitlines()[0]}" if said else "there is none"
        raise MissingError(
            f"Java 17 or newer ({found}): install a JRE (Debian, Ubuntu: apt install openjdk-17-jre-headless)"
        )
    jars = BUILD / f"{VERSION}-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if jars.is_dir():
        return jars
    if not shutil.which("mvn"):
        raise MissingError("Maven, to fetch the broker: install it (Debian, Ubuntu: apt install maven)")
    partial = jars.with_name(f"{jars.name}.{os.getpid()}")
    command = ["mvn", "-B", "-q", "-C", "-f", POM, "dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"Maven could not fetch Apache Kafka {VERSION}: {done.stdout}{done.stderr}"[-3000:])
        with contextlib.suppress(OSError):  # somebody else was quicker
            partial.rename(jars)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return jars


def _sasl():
    """Settings of the listener SASL; users of SCRAM are made by whoever needs them."""
    modules = "org.apache.kafka.common.security"
    jaas = {
        "plain": f'{modules}.plain.PlainLoginModule required user_lm="secret";',
        "scram-sha-256": f"{modules}.scram.ScramLoginModule required;",
        "scram-sha-512": f"{modules}.scram.ScramLoginModule required;",
        "oauthbearer": f'{modules}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="x";',
    }
    return {
        "listener.name.sasl.sasl.enabled.mechanisms": ",".join(name.upper() for name in jaas),
        "listener.name.sasl.connections.max.reauth.ms": 4000,
        **{f"listener.name.sasl.{name}.sasl.jaas.config": text for name, text in jaas.items()},
    }


def _keystore(path, certificate):
    """Write key and chain as Kafka wants them: PKCS #8."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.touch(0o600)
    path.write_bytes(pem + b"".join(c.bytes() for c in certificate.cert_chain_pems))
    return path


def _free_ports(count):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
