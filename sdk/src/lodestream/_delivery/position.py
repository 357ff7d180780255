"""Where in the server's log delivered spans are: for reads that must see them."""

import threading

_TOO_LONG = 20  # digits; an offset has 63 bits


class Positions:
    """The furthest position of each partition, from tokens like `lodestream.traces:3:1234,lodestream.traces:5:77`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._furthest: dict[str, int] = {}

    def add(self, token: str) -> None:
        """What makes no sense is passed over."""
        with self._lock:
            for part in token.split(",") if token else ():
                partition, _, offset = part.rpartition(":")
                if partition and offset.isdecimal() and len(offset) < _TOO_LONG:
                    self._furthest[partition] = max(int(offset), self._furthest.get(partition, -1))

    @property
    def token(self) -> str:
        """Give it to a read as `wait_for`; empty when nothing was delivered, or the server tells no positions."""
        with self._lock:
            return ",".join(f"{partition}:{offset}" for partition, offset in sorted(self._furthest.items()))
