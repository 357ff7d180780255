"""Addresses are throttled one by one, IPv6 ones by their /64, in bounded memory."""

from typing import Any

import pytest

from shared.auth import address_throttle
from shared.auth.address_throttle import AddressThrottle, network_of
from shared.auth.caller import address_of


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:443", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:50000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::ffff]:50000", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:50000", "192.0.2.1"),
        ("unix:/tmp/socket", "unix:/tmp/socket"),
        ("unix:", "unix:"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_peer_is_counted_by_its_network(peer: str, network: str) -> None:
    assert network_of(peer) == network


class Call:
    """What of a call tells where it comes from."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def peer(self) -> str:
        return "ipv4:192.0.2.1:50000"


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (None, "192.0.2.1"),
        ("X-Forwarded-For", "198.51.100.7"),
        ("x-real-ip", "203.0.113.9"),
        ("forwarded", "192.0.2.1"),
    ],
)
def test_a_header_tells_the_address_only_when_it_is_trusted(header: str | None, address: str) -> None:
    """The last address is the trusted proxy's own; the others are what its client wrote."""
    call: Any = Call(
        ("x-forwarded-for", "10.0.0.1"), ("x-forwarded-for", "10.0.0.2, 198.51.100.7"), ("x-real-ip", "203.0.113.9")
    )
    assert address_of(call, header) == address


def test_an_address_has_a_burst_and_then_a_rate() -> None:
    now = [0.0]
    throttle = AddressThrottle(per_second=2, burst=3, clock=lambda: now[0])
    for _ in range(3):
        assert throttle.allows("a")
        throttle.charge("a")
    assert not throttle.allows("a")
    assert throttle.allows("b")
    now[0] = 0.5
    assert throttle.allows("a")
    throttle.charge("a")
    assert not throttle.allows("a")
    now[0] = 1_000.0
    for _ in range(3):
        assert throttle.allows("a")
        throttle.charge("a")
    assert not throttle.allows("a")


def test_addresses_are_remembered_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_throttle, "MAX_ADDRESSES", 100)
    throttle = AddressThrottle(per_second=1, burst=1, clock=lambda: 0.0)
    for n in range(1_000):
        throttle.charge(str(n))
    assert len(throttle) == 100
    assert not throttle.allows("999")
    assert throttle.allows("0")
