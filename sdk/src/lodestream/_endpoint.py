"""Where the gateway is, and whether to speak TLS to it."""

import ipaddress
import re
from dataclasses import dataclass

DEFAULT_ENDPOINT = "127.0.0.1:4317"
_PORT = 4317
_HOST = re.compile(r"[\w.-]+")
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
    text = text.strip()
    if text.startswith("unix:"):
        return Endpoint(text, tls=False)
    scheme, separator, address = text.rpartition("://")
    scheme, address = scheme.lower(), address.rstrip("/")
    if not address or (separator and scheme not in _TLS | _PLAIN):
        raise ValueError(f"{text!r} is not host:port, https://host:port or http://host:port")
    host, port = _split(address)
    tls = scheme in _TLS if separator else not _is_loopback(host)
    return Endpoint(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", tls)


def _split(address: str) -> tuple[str, int]:
    host, separator, port = address.rpartition(":")
    if not separator or port.endswith("]") or _is_ipv6(address):
        host, port = address, str(_PORT)
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (_HOST.fullmatch(inner) or _is_ipv6(inner)) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not host:port")
    return inner, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
