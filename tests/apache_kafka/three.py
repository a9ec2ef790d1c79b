"""Three nodes of Apache Kafka that copy over mTLS, with an authorizer: what MSK is, without AWS."""

import contextlib
import datetime as dt
import ipaddress
import os
import shutil
import signal
import subprocess
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from apache_kafka.apache import _FORMAT, HOST, JAVA, START_SECONDS, STOP_SECONDS, _free_ports, fetch
from lmstream.lab.broker import _DIE_WITH_PARENT

NODES = (1, 2, 3)


class Authority:
    """Certificates whose subject is a name alone, as principals of ACLs are written."""

    def __init__(self, folder):
        self._folder = folder
        self._key, self._subject = ec.generate_private_key(ec.SECP256R1()), self._named("authority")
        self._certificate = self._signed(self._subject, self._key.public_key(), ca=True)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _named(name):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def _signed(self, subject, public, *, ca):
        now = dt.datetime.now(dt.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=60))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, name):
        """Answer the files of a certificate and its key, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._signed(self._named(name), key.public_key(), ca=False)
        pem = made.public_bytes(serialization.Encoding.PEM)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        cert, own, both = (self._folder / f"{name}.{end}" for end in ("pem", "key", "both.pem"))
        for path, text in ((cert, pem), (own, secret), (both, secret + pem)):
            path.touch(0o600)
            path.write_bytes(text)
        return cert, own, both


class Three:
    """The cluster. `open_to_all` is allow.everyone.if.no.acl.found, true on MSK until it is set otherwise."""

    def __init__(self, folder):
        self.folder, self.authority, self._jars = folder, Authority(folder), fetch()
        ports = _free_ports(2 * len(NODES))
        self._ports = {node: (ports[2 * i], ports[2 * i + 1]) for i, node in enumerate(NODES)}
        self.bootstrap = ",".join(f"{HOST}:{client}" for client, _ in self._ports.values())
        _, _, self._keystore = self.authority.issue("broker")
        self._running = {}

    def _settings(self, node, *, open_to_all):
        client, controller = self._ports[node]
        voters = ",".join(f"{each}@{HOST}:{ports[1]}" for each, ports in self._ports.items())
        return {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "MTLS",
            "listeners": f"MTLS://{HOST}:{client},CONTROLLER://{HOST}:{controller}",
            "listener.security.protocol.map": "MTLS:SSL,CONTROLLER:PLAINTEXT",
            "ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self._keystore,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.authority.ca,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # Controllers speak among themselves without certificates here; nobody else reaches them so. The brokers'
            # own certificate is no super user: the ACLs have to be right.
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": str(open_to_all).lower(),
            "log.dirs": self.folder / f"data-{node}",
            "auto.create.topics.enable": "false",
            "default.replication.factor": 3,
            "min.insync.replicas": 2,
            "offsets.topic.replication.factor": 3,
            "offsets.topic.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            "replica.lag.time.max.ms": 6000,
            "broker.session.timeout.ms": 6000,
            "num.network.threads": 2,
            "num.io.threads": 2,
            "log.cleaner.dedupe.buffer.size": 8 << 20,
        }

    def _java(self, heap, main, *arguments):
        return [heap, *JAVA, "-cp", f"{self._jars}/*", main, *map(str, arguments)]

    def start(self, *, open_to_all):
        for node in NODES:
            path = self.folder / f"server-{node}.properties"
            settings = self._settings(node, open_to_all=open_to_all)
            path.write_text("".join(f"{k}={v}\n" for k, v in settings.items()), "utf-8")
            if not (self.folder / f"data-{node}").is_dir():
                command = self._java(*_FORMAT, "format", "-t", "bG1zdHJlYW0tdGVzdHMtMw", "-c", path)
                subprocess.run(["java", *command], capture_output=True, timeout=START_SECONDS, check=True)
            self.launch(node)
        self._wait()

    def launch(self, node):
        path = self.folder / f"server-{node}.properties"
        wrapped = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), shutil.which("java")]
        with (self.folder / f"server-{node}.log").open("ab") as log:
            self._running[node] = subprocess.Popen(
                [*wrapped, *self._java("-Xmx384m", "kafka.Kafka", path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _wait(self):
        """Until every node has told the others of itself; who asks needs no right for that."""
        until = time.monotonic() + 2 * START_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(KafkaException):
                if len(self.client("broker", AdminClient).list_topics(timeout=2).brokers) == len(NODES):
                    return
            time.sleep(0.2)
        said = "".join((self.folder / f"server-{node}.log").read_text("utf-8", "replace")[-1500:] for node in NODES)
        raise RuntimeError(f"the three nodes did not come up: {said}")

    def options(self, name):
        """Settings of a librdkafka client with the certificate of a name, which is made when it is new."""
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        if not cert.exists():
            self.authority.issue(name)
        pem = {"ca": self.authority.ca, "certificate": cert, "key": key}
        options = {"bootstrap.servers": self.bootstrap, "security.protocol": "ssl", "log_level": 0}
        return options | {f"ssl.{what}.location": str(path) for what, path in pem.items()}

    def client(self, name, kind, **more):
        return kind(self.options(name) | {key.replace("_", "."): value for key, value in more.items()})

    def flags(self, name):
        """Flags of `lmstream` for a client with the certificate of a name."""
        options = self.options(name)
        pem = {
            f"--{flag}": options[f"ssl.{what}.location"]
            for flag, what in (("ca", "ca"), ("cert", "certificate"), ("key", "key"))
        }
        return ["--bootstrap", self.bootstrap, *(each for pair in pem.items() for each in pair)]

    def produce(self, name, topic, text):
        """Answer None once all copies have the record, else the error."""
        found = []
        producer = self.client(name, Producer, acks="all", message_timeout_ms=15_000)
        producer.produce(topic, text, on_delivery=lambda error, _: found.append(error))
        producer.flush(20)
        return found[0] if found else "no answer"

    def consume(self, name, topic, group):
        """Answer the first value of a topic, or the error."""
        consumer = self.client(name, Consumer, group_id=group, auto_offset_reset="earliest")
        try:
            consumer.subscribe([topic])
            until = time.monotonic() + 30
            while time.monotonic() < until:
                message = consumer.poll(1)
                if message is not None:
                    return message.error() or message.value()
            return None
        finally:
            consumer.close()

    def in_sync(self, topic):
        """Copies in sync of the partition that has fewest, as the administrator sees it."""
        known = self.client("admin", AdminClient).list_topics(topic, timeout=10).topics[topic]
        return min((len(each.isrs) for each in known.partitions.values()), default=0)

    def stop(self, *nodes):
        leaving = [self._running.pop(node) for node in nodes or NODES]
        for process in leaving:  # all have the signal before the first is waited for
            process.send_signal(signal.SIGTERM)
        for process in leaving:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self):
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
                process.wait(STOP_SECONDS)
