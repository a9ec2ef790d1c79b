"""Apache Kafka's own TLS: who is let in, and what those are told who are not."""

import datetime as dt

import pytest
import trustme

from lmstream.errors import LmstreamError
from support.kafka_scenarios import polled, produce, source


@pytest.fixture
def strangers(ours, tmp_path):
    """Certificates that must be refused."""
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "foreign", "expired")}
    foreign = trustme.CA()
    foreign.cert_pem.write_to_path(files["ca"])
    foreign.issue_cert("client@elsewhere").private_key_and_cert_chain_pem.write_to_path(files["foreign"])
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    expired = ours.certificates._authority.issue_cert("client@lmstream.test", not_after=past)
    expired.private_key_and_cert_chain_pem.write_to_path(files["expired"])
    return {name: str(path) for name, path in files.items()}


async def test_every_refusal_is_named(ours, topic, module, strangers):
    await ours.create_topic(topic)
    await produce(ours, topic, [b"v"])
    async with source(ours, module, topic) as consumer:
        assert [r.value for r in (await polled(consumer, 1))[0]] == [b"v"]
    plain = {"security": "plaintext", "ca": "", "cert": "", "key": ""}
    cases = {
        "no client certificate": ({"cert": "", "key": ""}, "requires a client certificate"),
        # TLS 1.3: our handshake is over before the broker judges, so this is read later
        "foreign client": ({"cert": strangers["foreign"], "key": ""}, "rejected the client certificate"),
        "expired client": ({"cert": strangers["expired"], "key": ""}, "expired"),
        "foreign authority": ({"ca": strangers["ca"]}, "its certificate was rejected"),
        "another host's certificate": ({"bootstrap": ours.misnamed}, "not valid for '127.0.0.1'"),
        "plaintext to TLS": (plain, "TLS"),
        "TLS to plaintext": ({"bootstrap": ours.plain}, "plaintext"),
    }
    for case, (change, text) in cases.items():
        with pytest.raises(LmstreamError, match=text) as caught:
            async with source(ours, module, **({"topics": (topic,)} | change)) as consumer:
                await polled(consumer, 1, seconds=20)
        # Our own certificate's end is seen before anything connects.
        usual = "config.certificate" if case == "expired client" else "source.tls"
        assert caught.value.reason.startswith(usual) or case == "plaintext to TLS", case
