"""The process forks: the parent goes on, the child begins anew, and gRPC is in neither's way.

gRPC is not made for forks. With a call under way a child may hang in it for ever; with connections alone, gRPC's own
hook into fork() may hang the parent. So whoever calls gRPC does it behind a guard, and a fork waits, not for long,
until nobody is there: all is closed before a fork, and what gRPC runs beneath has ended. An import that is under way
would never end in the child.
"""

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from lodestream._diagnostics import log

_TASKS = Path("/proc/self/task")
_NAMES = ("grpc", "event_engine", "lifeguard")


def wait_for_native_threads(seconds: float) -> bool | None:
    """Wait until there are none, and tell whether that came to be. None where it can't be known: only Linux tells."""
    if not _TASKS.exists():
        return None
    end = time.monotonic() + seconds
    while native_threads_left():
        if time.monotonic() >= end:
            return False
        time.sleep(0.0005)
    return True


def native_threads_left() -> bool:
    """Whether a thread has a name of gRPC's."""
    return any(_name(task).startswith(_NAMES) for task in _TASKS.iterdir())


def _name(task: Path) -> str:
    try:
        return (task / "comm").read_text()
    except OSError:  # it has just ended
        return ""


PATIENCE_SECONDS = 0.02
"""What a fork leaves to calls that are under way to end by themselves; then they are interrupted."""
MOST_SECONDS = 0.5
"""What it leaves to interrupted ones, and to another thread's fork."""
IMPORT_SECONDS = 5.0
"""What it leaves to gRPC's import, which takes 0.1 s, once in a process, and more where there is little CPU."""
THREADS_SECONDS = 0.4
"""What it leaves to the threads beneath gRPC. They end within 1 to 30 ms, but not while others have channels; then the
next fork waits for PATIENCE_SECONDS only."""
_FORK_SECONDS = 5.0  # for a fork, with what others do around it


class ForkAware(Protocol):
    """Calls gRPC from within the gate."""

    patient: bool
    """Whether its calls end by themselves, soon as a rule; if not, a fork interrupts them at once."""

    def on_enter(self) -> None:
        """Forget interruptions of former times: it comes in."""

    def interrupt(self) -> None:
        """Give up what is under way, and leave soon. Called by another thread."""

    def disconnect(self) -> None:
        """Close what is open; nobody uses it."""

    def abandon(self) -> None:
        """In the child of a fork: never touch again what is open, it is the parent's."""


class ForkGuard:
    """One for the process. `usable` is false in a child in which gRPC may hang or abort: it can't send."""

    def __init__(self) -> None:
        self.members: weakref.WeakSet[ForkAware] = weakref.WeakSet()
        """All that may have something open."""
        self.usable = True
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition(threading.RLock())  # a signal handler that forks may come in anywhere
        self._inside: list[tuple[int, ForkAware]] = []
        self.importing = False
        self._forker, self._depth, self._empty = 0, 0, False
        self._gone: bool | None = None  # what runs beneath gRPC; None: not known

    @contextmanager
    def entered(self, member: ForkAware) -> Iterator[bool]:
        """Inside the block gRPC may be called, if what it gives is true. Waits while a thread forks."""
        with self._changed:
            self._changed.wait_for(lambda: not self._forker, _FORK_SECONDS)
            member.on_enter()
            self.members.add(member)
            me = (threading.get_ident(), member)
            self._inside.append(me)
        try:
            yield self.usable
        finally:
            with self._changed, suppress(ValueError):  # it is not there in the child of a fork
                self._inside.remove(me)
                self._changed.notify_all()

    @contextmanager
    def imports(self) -> Iterator[None]:
        """Around the import of gRPC, inside the gate."""
        self.importing = True
        try:
            yield
        finally:
            with self._changed:
                self.importing = False
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Keep others out, have those inside leave, and close what they left open."""
        me = threading.get_ident()
        if self._forker == me:
            self._depth += 1
            return
        with self._changed:
            if not self._changed.wait_for(lambda: not self._forker, MOST_SECONDS):
                return
            self._forker, self._depth = me, 1
            self._empty = self._emptied(me)
            if self._empty and self.members:
                for member in list(self.members):
                    member.disconnect()
                self._gone = wait_for_native_threads(PATIENCE_SECONDS if self._gone is False else THREADS_SECONDS)

    def after_fork_in_parent(self) -> None:
        """Let others in, when this was called as often as `before_fork`."""
        if self._forker != threading.get_ident():
            return
        self._depth -= 1
        if not self._depth:
            with self._changed:
                self._forker = 0
                self._changed.notify_all()

    def after_fork_in_child(self, *, survives: bool) -> None:
        """Whoever was inside is not in this process. `survives`: whether gRPC is of use if it still ran.

        Who forks in C may not have called `before_fork` (uWSGI).
        """
        empty = self._empty if self._forker == threading.get_ident() else not self._inside
        for member in list(self.members):
            member.abandon()
        self.members.clear()
        self.usable = self.usable and empty and (survives if self._gone is None else self._gone)
        self._reset()

    def _emptied(self, me: int) -> bool:
        """Whether nobody is inside. A thread that forks from within, in a signal handler, can't be waited for."""
        self._changed.wait_for(lambda: not self.importing, IMPORT_SECONDS)
        for _, member in self._inside:
            if not member.patient:
                member.interrupt()
        for seconds in (PATIENCE_SECONDS, MOST_SECONDS):
            if self._changed.wait_for(lambda: all(thread == me for thread, _ in self._inside), seconds):
                break
            for _, member in self._inside:
                member.interrupt()
        return not self._inside


FORK_GUARD = ForkGuard()


class Renewable(Protocol):
    """Begins anew in the child of a fork."""

    def _after_fork(self) -> None: ...


_renewables: "weakref.WeakSet[Any]" = weakref.WeakSet()
_opened = False  # whether there was a channel, in this process or in one that it was forked from
_SWITCHED_OFF = frozenset({"0", "false", "no", "off"})


def renew_after_fork(renewable: Renewable) -> None:
    """Call its `_after_fork` in every child of a fork."""
    _renewables.add(renewable)


def channel_opened() -> None:
    """Hook in again, outside of the hooks that gRPC may have set up with its first channel.

    What is to be done before a fork is done last first, what is to be done after it first first.
    """
    global _opened  # noqa: PLW0603 - one process, one state
    if not _opened and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=FORK_GUARD.before_fork, after_in_parent=FORK_GUARD.after_fork_in_parent)
    _opened = True


def _in_child() -> None:
    FORK_GUARD.after_fork_in_child(survives=not _opened or _grpc_stops_for_forks())
    for renewable in list(_renewables):
        try:
            renewable._after_fork()
        except Exception as error:
            log.debug("beginning anew after a fork", exc_info=error)


def _grpc_stops_for_forks() -> bool:
    """Whether gRPC stops by itself for a fork; where that was switched off, it aborts a child that uses it again."""
    return os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "1").strip().lower() not in _SWITCHED_OFF


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=FORK_GUARD.before_fork, after_in_parent=FORK_GUARD.after_fork_in_parent, after_in_child=_in_child
    )
