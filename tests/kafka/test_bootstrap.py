"""Addresses of brokers as people write them."""

import pytest

from lmstream.errors import ConfigError
from lmstream.kafka.settings import addresses


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("b-1:9092", [("b-1", 9092)]),
        (" b-1:9092, b-2:9094 ,", [("b-1", 9092), ("b-2", 9094)]),
        ("[::1]:9092", [("::1", 9092)]),
        ("127.0.0.1:9092", [("127.0.0.1", 9092)]),
    ],
)
def test_addresses_are_read(text, found):
    assert addresses(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("::1:9092", r"write an IPv6 address in brackets, \[::1\]:9092"),
        ("2001:db8::5:9092", r"write an IPv6 address in brackets, \[2001:db8::5\]:9092"),
        ("PLAINTEXT://b-1:9092", "leave PLAINTEXT:// out, and set security"),
        ("SASL_SSL://b-1:9096,b-2:9096", "leave SASL_SSL:// out, and set security"),
        ("b-1", "is not host:port"),
        (":9092", "is not host:port"),
        ("b-1:http", "is not host:port"),
        (" , ", "no broker is named"),
    ],
)
def test_what_is_no_address_is_refused_alike_for_both_clients(text, said):
    with pytest.raises(ConfigError, match=said):
        addresses(text)
