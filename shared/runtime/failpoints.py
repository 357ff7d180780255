"""Named places at which a test makes a process die, pause or fail: `await failpoint("projection.copied")`.

Armed only by LODESTREAM_FAILPOINTS, a comma-separated list of `name=action` or `name=action@n`: at the n-th passage
(the first by default) the action happens, once. Actions: `kill` (SIGKILL to oneself), `pause` (SIGSTOP to oneself), or
`raise`.
"""

import os
import signal
from itertools import count

_ACTIONS = frozenset({"kill", "pause", "raise"})


class FailpointError(Exception):
    """An armed failpoint was passed."""


class _Armed:
    def __init__(self, action: str, nth: int) -> None:
        if action not in _ACTIONS:
            raise ValueError(f"LODESTREAM_FAILPOINTS: {action!r} is none of {', '.join(sorted(_ACTIONS))}")
        self.action, self.nth, self.passages = action, nth, count(1)


def _parse(text: str) -> dict[str, _Armed]:
    armed = {}
    for item in filter(None, text.split(",")):
        name, _, rest = item.partition("=")
        action, _, nth = rest.partition("@")
        armed[name.strip()] = _Armed(action.strip(), int(nth or 1))
    return armed


_armed = _parse(os.environ.get("LODESTREAM_FAILPOINTS", ""))


async def failpoint(name: str) -> None:
    """Nothing, unless a test armed this name.

    Raises FailpointError when it was armed with `raise`.
    """
    armed = _armed.get(name)
    if armed is None or next(armed.passages) != armed.nth:
        return
    if armed.action == "raise":
        raise FailpointError(name)
    os.kill(os.getpid(), signal.SIGKILL if armed.action == "kill" else signal.SIGSTOP)
