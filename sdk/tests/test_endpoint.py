"""Addresses as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream._settings import Endpoint, parse_endpoint


@pytest.mark.parametrize(
    ("text", "target", "tls"),
    [
        ("127.0.0.1:4317", "127.0.0.1:4317", False),
        ("localhost", "localhost:4317", False),
        ("LocalHost:1", "LocalHost:1", False),
        ("gate", "gate:4317", True),
        ("gate.example.com:443", "gate.example.com:443", True),
        ("10.0.0.7:4317", "10.0.0.7:4317", True),
        ("http://gate:4317/", "gate:4317", False),
        ("insecure://gate", "gate:4317", False),
        ("grpc://gate:1", "gate:1", False),
        ("https://localhost:1", "localhost:1", True),
        ("HTTPS://gate:1", "gate:1", True),
        ("grpcs://gate:1", "gate:1", True),
        (" gate:1\n", "gate:1", True),
        ("[::1]:4317", "[::1]:4317", False),
        ("[::1]", "[::1]:4317", False),
        ("::1", "[::1]:4317", False),
        ("http://[fe80::1]:1", "[fe80::1]:1", False),
        ("unix:/run/gate.sock", "unix:/run/gate.sock", False),
        ("unix:///run/gate.sock", "unix:///run/gate.sock", False),
    ],
)
def test_addresses(text: str, target: str, tls: bool) -> None:
    assert parse_endpoint(text) == Endpoint(target, tls)


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "://", "http://", "ftp://gate:1", "gate:", "gate:port", "gate:0", "gate:65536", "gate:-1", ":4317",
        "gate:4317/v1/traces", "user@gate:1", "two words:1", "[::1", "a:b:c", "https://gate:4317/v1/traces",
    ],
)  # fmt: skip
def test_what_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        parse_endpoint(text)


@given(st.text())
def test_nothing_but_a_value_error_is_raised(text: str) -> None:
    try:
        target = parse_endpoint(text).target
    except ValueError:
        return
    assert target.startswith("unix:") or int(target.rpartition(":")[2])
