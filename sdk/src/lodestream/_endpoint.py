"""Where the gateway is, and whether to speak TLS to it."""

import ipaddress
from dataclasses import dataclass

DEFAULT_ENDPOINT = "127.0.0.1:4317"
_PORT = 4317
_TLS, _PLAIN = {"https", "grpcs"}, {"http", "grpc", "insecure"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A target as gRPC names it."""

    target: str
    tls: bool


def parse_endpoint(text: str) -> Endpoint:
    """`host:port`, with `https://` in front for TLS or `http://` (`insecure://`) for plaintext.

    Without a scheme only this machine itself is spoken to in plaintext. Raises ValueError.
    """
    scheme, separator, address = text.strip().rpartition("://")
    address = address.rstrip("/")
    if not address or (separator and scheme not in _TLS | _PLAIN):
        raise ValueError(f"{text!r} is not host:port, https://host:port or http://host:port")
    if address.startswith("unix:"):
        return Endpoint(address, tls=False)
    host, port = _split(address)
    tls = scheme in _TLS if separator else not _is_loopback(host)
    return Endpoint(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", tls)


def _split(address: str) -> tuple[str, int]:
    host, separator, port = address.rpartition(":")
    if not separator or port.endswith("]"):
        host, port = address, str(_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
