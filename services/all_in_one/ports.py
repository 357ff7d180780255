"""Free ports on this machine."""

import random
import socket

HOST = "127.0.0.1"
# Below the range the kernel hands to outgoing connections, so that none of those takes a port we chose a moment ago.
_RANGE = range(20_000, 32_000)
_taken: set[int] = set()


def find_port(preferred: int | None = None) -> int:
    """Return `preferred` where it is free, else a free port. No port is returned twice by one process."""
    candidates = [preferred] if preferred else []
    for port in [*candidates, *random.sample(_RANGE, 200)]:
        if port not in _taken and _is_free(port):
            _taken.add(port)
            return port
    raise OSError(f"no free port was found on {HOST}")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's wait is no owner
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
        return True
