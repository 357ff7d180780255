"""How many unknown API keys an address may try: a token bucket for each, in bounded memory."""

import ipaddress
from collections.abc import Callable
from urllib.parse import unquote

from shared.runtime.token_bucket import Buckets

MAX_ADDRESSES = 10_000
_IPV6_PREFIX = 64  # one subscriber usually has a whole /64


class AddressThrottle:
    """Token buckets by address. Only failures cost a token, so an address that sends good keys is never throttled."""

    def __init__(self, *, per_second: float, burst: float, clock: Callable[[], float]) -> None:
        """`per_second` tokens come back to an address, up to `burst`; `clock` is in seconds."""
        self._clock = clock
        # A bucket allows what it has no debt for: one token less than the burst.
        self._buckets = Buckets(per_second, burst - 1, clock, capacity=MAX_ADDRESSES)

    def allows(self, address: str) -> bool:
        """Return whether the address has a token left."""
        return not self._buckets.of(address).wait(self._clock())

    def charge(self, address: str) -> None:
        """Take a token. Of too many addresses those are forgotten that tried keys longest ago."""
        self._buckets.of(address).take(1, self._clock())

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._buckets)


def network_of(peer: str) -> str:
    """The network that shares a bucket: an IPv4 address, or the /64 of an IPv6 one.

    `peer` is gRPC's name of a peer (`ipv4:192.0.2.1:50000`, `ipv6:%5B2001:db8::1%5D:50000`, `unix:`) or an address as
    proxies write it, with or without a port. What is no address is returned as it is.
    """
    host = unquote(peer).strip()
    if host.startswith(("ipv4:", "ipv6:")):
        host = host[len("ipv4:") :]
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
        address = address.ipv4_mapped
    return str(address)
