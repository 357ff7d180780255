"""The process forks: the parent goes on, the child begins anew, and gRPC is in neither's way."""

import contextlib
import os
import weakref
from typing import Any, Protocol

from lodestream._delivery.fork_guard import Gate

GATE = Gate()


class Forkable(Protocol):
    """Begins anew in the child of a fork."""

    def after_fork(self) -> None: ...


_forkables: "weakref.WeakSet[Any]" = weakref.WeakSet()
_opened = False  # whether there was a channel, in this process or in one that it was forked from
_SWITCHED_OFF = frozenset({"0", "false", "no", "off"})


def renew_after_fork(forkable: Forkable) -> None:
    """Tell it, in every child."""
    _forkables.add(forkable)


def channel_opened() -> None:
    """Hook in again, outside of the hooks that gRPC may have set up with its first channel.

    What is to be done before a fork is done last first, what is to be done after it first first.
    """
    global _opened  # noqa: PLW0603 - one process, one state
    if not _opened and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=GATE.before_fork, after_in_parent=GATE.after_fork_in_parent)
    _opened = True


def _in_child() -> None:
    GATE.after_fork_in_child(survives=not _opened or _grpc_stops_for_forks())
    for forkable in list(_forkables):
        with contextlib.suppress(Exception):
            forkable.after_fork()


def _grpc_stops_for_forks() -> bool:
    """It does by itself, unless that was switched off: then, once used, it aborts the child that uses it."""
    return os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "1").strip().lower() not in _SWITCHED_OFF


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=GATE.before_fork, after_in_parent=GATE.after_fork_in_parent, after_in_child=_in_child)
