"""TLS against real handshakes: refusals named, renewals taken up under traffic, bad material never loaded."""

import asyncio
import contextlib
import datetime as dt
import json
import logging
import os
import socket
import ssl
import stat
import threading

import pytest
import trustme

from lmstream.errors import ConfigError, SourceError
from lmstream.kafka import certificates, connection_probe
from lmstream.kafka.connection_probe import probe
from lmstream.kafka.tls import Tls
from lmstream.lab import Certificates, KafkaLab, MtlsProxy
from lmstream.sources.kafka import Kafka, Settings
from support.kafka_scenarios import GROUP, polled, produce
from support.wait import until

DAY = 86_400
NOW = 1_800_000_000.0
YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


def at(moment):
    return dt.datetime.fromtimestamp(moment, dt.UTC)


def settings(pem, **more):
    tls = {"security": "ssl", "ca": str(pem.ca), "cert": str(pem.client_cert), "key": str(pem.client_key)}
    return Settings(**({"bootstrap": "127.0.0.1:1", "topics": ("lm",)} | tls | more))


@contextlib.asynccontextmanager
async def kafka_like(context=None):
    """Answers every request with four bytes, as a broker's first word would be; TLS by the context.

    Threads and sockets: servers of asyncio close after a failed handshake without the alert that real ones send.
    """

    def serve(client):
        with client, contextlib.suppress(OSError):
            client.settimeout(5)
            served = context.wrap_socket(client, server_side=True) if context else client
            with served:
                asked = served.recv(4)
                if asked == b"\0\0\0\x0a":  # the length of our question; anything else, and Kafka hangs up
                    served.sendall(b"\0\0\0\1")

    def accept():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(client,)))
                threads[-1].start()

    listener = socket.create_server(("127.0.0.1", 0))
    threads = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            await asyncio.to_thread(thread.join, 10)


def server_context(issuer, trusted=None, version=None, *names, **more):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issuer.issue_cert(*(names or ("localhost", "127.0.0.1")), **more).configure_cert(context)
    if trusted is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        trusted.configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


async def refusal(port, context, *, client_cert=True, host="127.0.0.1"):
    with pytest.raises(SourceError) as caught:
        await probe(host, port, context, client_cert=client_cert)
    assert "[source." in str(caught.value)
    return caught.value


# Refusals, each with its cause


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_what_a_broker_says_of_our_certificate_is_said_as_that(tmp_path, version):
    ca, foreign = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    good = ca.issue_cert("client@x")
    expired = ca.issue_cert("client@x", not_after=YESTERDAY)
    stranger = foreign.issue_cert("client@x")
    async with kafka_like(server_context(ca, ca, version)) as port:

        async def with_certificate(leaf):
            context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            if leaf is not None:
                leaf.configure_cert(context)
            return await refusal(port, context, client_cert=leaf is not None)

        late = version == ssl.TLSVersion.TLSv1_3  # then the handshake is over for us before the broker has judged
        for _ in range(5):
            error = await with_certificate(None)
            assert error.reason == "source.tls_client"
            assert "requires a client certificate; set cert and key" in error.detail
            error = await with_certificate(expired)
            assert (error.reason, "it has expired" in error.detail) == ("source.tls_expired", True)
            error = await with_certificate(stranger)
            assert error.reason == "source.tls_client"
            assert "does not trust the authority that signed it" in error.detail
            assert "reset" not in error.detail.lower()
            assert ("ALERT" in error.detail) or not late
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        good.configure_cert(context)
        await probe("127.0.0.1", port, context, client_cert=True)


async def test_a_late_refusal_that_ends_in_a_reset_is_still_named(tmp_path, monkeypatch):
    # The alert is lost with the reset when our question is already on its way: here it always is.
    ca, foreign = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    foreign.issue_cert("client@x").configure_cert(context)

    async def lost(_reader, _writer):
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(connection_probe, "_ask", lost)
    async with kafka_like(server_context(ca, ca)) as port:
        error = await refusal(port, context)
    assert (error.reason, "does not trust the authority" in error.detail) == ("source.tls_client", True)


async def test_each_fault_of_the_brokers_certificate_is_named(tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    for server, host, reason, text in [
        (server_context(ca, not_after=YESTERDAY), "127.0.0.1", "source.tls_expired", "it has expired"),
        (server_context(trustme.CA()), "127.0.0.1", "source.tls_issuer", "unknown authority"),
        (server_context(ca, None, None, "127.0.0.1"), "localhost", "source.tls_host", "another host name"),
        (server_context(ca, None, None, "b-1.kafka.test"), "127.0.0.1", "source.tls_host", "another address"),
    ]:
        async with kafka_like(server) as port:
            error = await refusal(port, context, host=host)
        assert (error.reason, text in error.detail) == (reason, True), error


async def test_tls_against_plaintext_is_named_either_way(tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with kafka_like() as port:
        error = await refusal(port, ssl.create_default_context(cafile=tmp_path / "ca.pem"))
        assert (error.reason, "speaks plaintext, and security is ssl" in error.detail) == ("source.tls_port", True)
    async with kafka_like(server_context(ca)) as port:
        error = await refusal(port, None)
        assert (error.reason, "speaks TLS, and security is plaintext" in error.detail) == ("source.tls_port", True)
    async with MtlsProxy(Certificates(tmp_path)) as proxy:
        error = await refusal(proxy.port, None)
        assert error.reason == "source.tls_port"


# Material that cannot be used


def test_material_that_cannot_be_used_is_refused_before_anything_connects(tmp_path):
    pem = Certificates(tmp_path)
    whole, key = pem.client_cert.read_bytes(), pem.client_key.read_bytes()
    ended, ended_key = pem.issue_client(not_after=YESTERDAY)
    _, other_key = pem.issue_client()
    for cert, its_key, text in [
        (ended, ended_key, r"client.pem: the client certificate has expired on \d{4}-"),
        (whole, other_key, "client.pem and .*client.key do not belong together"),
        (whole[: len(whole) // 2], key, "client.pem: not a PEM certificate"),
        (whole, key[: len(key) // 2], "client.key: not a PEM certificate and key, or only a part"),
        (b"", key, "client.pem: not a PEM certificate"),
        (whole, b"", "client.key: not a PEM certificate"),
    ]:
        pem.client_cert.write_bytes(cert)
        pem.client_key.write_bytes(its_key)
        with pytest.raises(ConfigError, match=text) as caught:
            Tls(settings(pem))
        assert caught.value.reason == "config.certificate"
        assert "Fix: renew or replace" in str(caught.value)
    with pytest.raises(ConfigError, match="in the secret"):
        Tls(settings(pem, cert="awssm:x"))


def test_a_certificate_that_is_not_valid_yet_is_refused(tmp_path):
    pem = Certificates(tmp_path)
    with pytest.raises(ConfigError, match="not valid before 2000-"):
        Tls(settings(pem), now=lambda: 0.0)


@pytest.mark.parametrize("memfd", [True, False])
def test_bytes_are_lent_to_openssl_through_a_file_of_ours_alone(monkeypatch, memfd):
    if not memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    with certificates.as_path(b"secret") as path:
        with open(path, "rb") as lent:  # noqa: PTH123 - as OpenSSL opens it
            assert lent.read() == b"secret"
        if not memfd:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116 - its mode is the point
    assert not os.path.exists(path)  # noqa: PTH110 - as above


def test_a_key_that_others_may_read_is_warned_about_once(tmp_path, caplog):
    pem = Certificates(tmp_path)
    Tls(settings(pem))
    assert not caplog.records
    pem.client_key.chmod(0o644)
    Tls(settings(pem))
    (said,) = caplog.messages
    assert "client.key can be read by other users (mode 0644)" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(("mode", "warned"), [(0o440, False), (0o444, True), (0o460, True)])
def test_a_key_that_only_the_group_of_a_pod_may_read_is_private(tmp_path, caplog, mode, warned):
    pem = Certificates(tmp_path)
    os.chown(pem.client_key, 12345, os.getegid())  # as a volume of Kubernetes: root's, and the fsGroup's
    pem.client_key.chmod(mode)
    Tls(settings(pem))
    assert bool(caplog.messages) is warned


# Expiry


async def test_the_end_of_the_certificate_is_known_and_said_in_time(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    end = NOW + 40 * DAY
    pem = Certificates(tmp_path)
    pem.renew_client(not_after=at(end))
    clock = NOW
    tls = Tls(settings(pem), now=lambda: clock)
    assert tls.expiry == end
    said = []
    for hour in range(42 * 24):
        clock = NOW + hour * 3600
        tls._warn()
        said += [(hour / 24, record.levelname) for record in caplog.records]
        caplog.clear()
    days = [day for day, _ in said]
    assert 10 < days[0] < 10.1  # from thirty days before on
    assert len(days) == pytest.approx(30 + 2 + 2, abs=2)  # one a day, one more for each threshold
    assert any(33 < day < 33.1 for day in days)
    assert all(level == ("WARNING" if day <= 39 else "ERROR") for day, level in said)
    # What has expired while we ran: a new start is refused, a renewal heals it.
    with pytest.raises(ConfigError, match="has expired on"):
        Tls(settings(pem), now=lambda: clock)
    pem.renew_client(not_after=at(clock + 365 * DAY))
    assert await tls.look()
    assert tls.expiry == clock + 365 * DAY
    assert not caplog.records


def test_a_start_close_to_the_end_says_so(tmp_path, caplog):
    pem = Certificates(tmp_path)
    pem.renew_client(not_after=at(NOW + 6 * DAY))
    Tls(settings(pem), now=lambda: NOW)
    assert "expires in 6.0 days, on 2027-" in caplog.text


# Renewal


async def shown(proxy, context):
    """The common name that a new connection presents, or None when it is refused."""
    proxy.peers.clear()
    taken, refused = proxy.connections, proxy.refused
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=context)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    await until(lambda: proxy.connections > taken or proxy.refused > refused)
    return next(iter(proxy.peers), None)


async def test_bad_material_on_disk_leaves_the_old_in_use(tmp_path, caplog):
    pem = Certificates(tmp_path, client_name="old")
    tls = Tls(settings(pem))
    context = await tls.load()
    async with MtlsProxy(pem) as proxy:
        assert await shown(proxy, context) == "old"
        good = pem.client_cert.read_bytes(), pem.client_key.read_bytes()
        new, new_key = pem.issue_client("new")
        ended, ended_key = pem.issue_client("ended", YESTERDAY)
        bad = [
            (new, good[1], "do not belong together"),
            (new[: len(new) // 2], new_key, "not a PEM"),
            (new, new_key[:100], "not a PEM"),
            (b"", new_key, "not a PEM"),
            (ended, ended_key, "has expired"),
            (None, new_key, "No such file"),
        ]
        for number, (cert, key, text) in enumerate(bad, 1):
            pem.client_cert.unlink()
            if cert is not None:
                pem.client_cert.write_bytes(cert)
            pem.client_key.write_bytes(key)
            caplog.clear()
            assert not await tls.look()
            assert not await tls.look()  # the same again is counted and not said again
            assert (tls.failures, tls.renewals, len(caplog.records)) == (2 * number, 0, 1)
            assert text in tls.trouble
            assert "the old one stays in use" in caplog.text
            assert await shown(proxy, context) == "old"
        pem.client_cert.write_bytes(new)
        pem.client_key.write_bytes(new_key)
        assert await tls.look()
        assert (tls.renewals, tls.trouble, tls.context) == (1, "", context)
        assert await shown(proxy, context) == "new"
        assert not await tls.look()


async def test_a_load_that_fails_after_all_is_undone(tmp_path, monkeypatch):
    pem = Certificates(tmp_path, client_name="old")
    tls = Tls(settings(pem))
    pem.renew_client("new")
    load, loads = certificates.Identity.load, []

    def fails_on_the_live_one(identity, context):
        loads.append(context)
        if len(loads) == 2:
            _, key = pem.issue_client()
            identity = certificates.Identity(
                certificate=identity.certificate, key=key, password="", certificate_at="c", key_at="k"
            )
        load(identity, context)

    monkeypatch.setattr(certificates.Identity, "load", fails_on_the_live_one)
    async with MtlsProxy(pem) as proxy:
        assert not await tls.look()
        assert loads[1] is loads[2] is tls.context
        assert await shown(proxy, tls.context) == "old"
        assert await tls.look()
        assert await shown(proxy, tls.context) == "new"


async def test_a_kubernetes_volume_swaps_its_link_and_a_new_authority_is_trusted_too(tmp_path):
    old, new = Certificates(tmp_path / "..old", client_name="old"), Certificates(tmp_path / "..new", client_name="new")
    data = tmp_path / "..data"
    data.symlink_to("..old")
    for name in ("ca.pem", "client.pem", "client.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    paths = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
    tls = Tls(settings(old, reload_seconds=0.05, **{k: str(tmp_path / name) for k, name in paths.items()}))
    await tls.start()
    try:
        async with MtlsProxy(old) as before, MtlsProxy(new) as after:
            assert await shown(before, tls.context) == "old"
            swap = tmp_path / "..swap"
            swap.symlink_to("..new")
            swap.replace(data)
            await until(lambda: tls.renewals)
            assert await shown(after, tls.context) == "new"
    finally:
        await tls.close()
        await tls.close()


async def test_a_consumer_goes_on_over_a_renewal_and_shows_the_new_certificate(tmp_path):
    async with KafkaLab(tmp_path, mtls=True) as lab:
        await lab.create_topic("lm")
        used = {"bootstrap": lab.bootstrap, "group": "g", "reload_seconds": 0.1, **GROUP}
        source = Kafka(settings(lab.certificates, **used))
        try:
            await produce(lab, "lm", [b"0"])
            seen = [r.value for r in (await polled(source, 1))[0]]
            context, epochs = source.tls.context, source.assignment
            assert lab.proxy.peers == {"lmstream-client"}

            async def renewed():
                while not source.tls.renewals:
                    seen.extend(r.value for r in (await source.poll(1 << 20)).records)

            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.wait_for(renewed(), 10))
                await produce(lab, "lm", [b"1", b"2"])
                # A writer that is slower than our looks: half a certificate, then its key, then all of it.
                new, key = lab.certificates.issue_client("renewed")
                for path, data in [
                    (lab.certificates.client_cert, new[:300]),
                    (lab.certificates.client_key, key),
                    (lab.certificates.client_cert, new),
                ]:
                    failures = source.tls.failures
                    path.write_bytes(data)
                    if data is new:
                        break
                    assert not await source.tls.look()
                    assert source.tls.failures > failures
            lab.proxy.peers.clear()
            await lab.proxy.kill_all()
            await produce(lab, "lm", [b"3", b"4"])
            while len(set(seen)) < 5:
                seen += [r.value for r in (await polled(source, 1))[0]]
            assert "renewed" in lab.proxy.peers
            assert seen == [b"0", b"1", b"2", b"3", b"4"]
            assert source.tls.context is context
            assert source.assignment.keys() == epochs.keys()
        finally:
            await source.close()


# A secret


@pytest.fixture
def secrets(monkeypatch):
    from moto.server import ThreadedMotoServer

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "lab")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    finally:
        server.stop()


def secret(pem, name="lmstream-client", password=""):
    chain, key = pem.issue_client(name)
    if password:
        from cryptography.hazmat.primitives import serialization as s

        plain = s.load_pem_private_key(key, None)
        locked = s.BestAvailableEncryption(password.encode())
        key = plain.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, locked)
    whole = {"certificate": chain.decode(), "privateKey": key.decode()}
    return json.dumps(whole | ({"privateKeyPassword": password} if password else {}))


async def test_a_certificate_from_a_secret_and_its_rotation(tmp_path, secrets, caplog):
    import aioboto3

    pem = Certificates(tmp_path)
    async with (
        aioboto3.Session().client("secretsmanager", endpoint_url=secrets) as manager,
        MtlsProxy(pem) as proxy,
    ):
        made = await manager.create_secret(Name="kafka/mtls", SecretString=secret(pem, "first", "canary-3141"))
        used = {"key": "", "secrets_endpoint_url": secrets, "reload_seconds": 0.05}
        tls = Tls(settings(pem, cert=f"awssm:{made['ARN']}", **used))
        assert tls.context is None
        await tls.start()
        try:
            context = tls.context
            assert tls.expiry is not None
            assert await shown(proxy, context) == "first"

            async def rotate(text, *, good=True):
                renewals, failures = tls.renewals, tls.failures
                await manager.put_secret_value(SecretId="kafka/mtls", SecretString=text)
                # Two looks that fail: the first may have begun before the rotation.
                await until(lambda: tls.renewals > renewals if good else tls.failures > failures + 1)

            await rotate(secret(pem, "second"))
            assert (tls.renewals, tls.context) == (1, context)
            assert await shown(proxy, context) == "second"
            for bad in ("no JSON", '{"certificate": "canary-2718"}', json.dumps({"certificate": "", "privateKey": ""})):
                await rotate(bad, good=False)
                assert tls.trouble
            assert await shown(proxy, context) == "second"
            await rotate(secret(pem, "third"))
            assert await shown(proxy, context) == "third"
        finally:
            await tls.close()
        first = Tls(settings(pem, cert="awssm:kafka/mtls", **used))
        assert await shown(proxy, await first.load()) == "third"
    assert "canary" not in caplog.text
    assert "canary" not in repr(tls._material)


async def test_a_secret_that_cannot_be_had_is_named(tmp_path, secrets, unused_tcp_port, monkeypatch):
    pem = Certificates(tmp_path)
    nowhere = f"http://127.0.0.1:{unused_tcp_port}"
    for endpoint, text in [(secrets, "ResourceNotFound"), (nowhere, "Could not connect")]:
        tls = Tls(settings(pem, cert="awssm:kafka/none", key="", secrets_endpoint_url=endpoint))
        with pytest.raises(ConfigError, match=text) as caught:
            await tls.start()
        assert caught.value.reason == "config.secret"
        assert "GetSecretValue" in str(caught.value)
        await tls.close()
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigError, match="NoRegionError"):
        await Tls(settings(pem, cert="awssm:kafka/none", key="", secrets_endpoint_url=secrets)).load()
