"""The guard of gRPC: a fork waits until nobody is inside, for a bounded time, and lets those inside know."""

import threading
import time
from collections.abc import Iterator

import pytest
from lodestream._delivery.fork_guard import MOST_SECONDS, PATIENCE_SECONDS, THREADS_SECONDS, ForkGuard

from sdk.tests.polling import until


class Caller:
    """Is inside until it is interrupted, or for ever."""

    def __init__(self, guard: ForkGuard, *, stubborn: bool = False, patient: bool = True) -> None:
        self.stubborn, self.patient, self.events = stubborn, patient, list[str]()
        self._leave, self._gate = threading.Event(), guard
        self.thread = threading.Thread(target=self._call)

    def _call(self) -> None:
        with self._gate.entered(self):
            self.events.append("inside")
            self._leave.wait(30)
        self.events.append("left")

    def on_enter(self) -> None: ...

    def interrupt(self) -> None:
        self.events.append("interrupted")
        if not self.stubborn:
            self._leave.set()

    def disconnect(self) -> None:
        self.events.append("hung up")

    def abandon(self) -> None:
        self.events.append("stranded")

    def end(self) -> None:
        self._leave.set()
        self.thread.join()


@pytest.fixture
def guard() -> ForkGuard:
    return ForkGuard()


@pytest.fixture
def caller(guard: ForkGuard) -> Iterator[Caller]:
    made = Caller(guard)
    made.thread.start()
    until(lambda: made.events)
    yield made
    made.end()


def test_a_fork_interrupts_who_is_inside_and_closes_what_is_open(guard: ForkGuard, caller: Caller) -> None:
    begun = time.monotonic()
    guard.before_fork()
    assert time.monotonic() - begun < PATIENCE_SECONDS + MOST_SECONDS
    assert caller.events[:2] == ["inside", "interrupted"]
    assert caller.events[-1] == "hung up" or caller.events[-2:] == ["hung up", "left"]
    guard.after_fork_in_parent()


def test_who_would_stay_for_long_is_interrupted_at_once(guard: ForkGuard) -> None:
    impatient = Caller(guard, patient=False)
    impatient.thread.start()
    until(lambda: impatient.events)
    begun = time.monotonic()
    guard.before_fork()
    assert time.monotonic() - begun < MOST_SECONDS
    assert impatient.events[:2] == ["inside", "interrupted"]
    assert impatient.events.count("interrupted") == 1
    guard.after_fork_in_parent()
    impatient.end()


def test_nobody_comes_in_while_a_thread_forks(guard: ForkGuard) -> None:
    guard.before_fork()
    guard.before_fork()  # it is hooked in twice
    later = Caller(guard)
    later.thread.start()
    guard.after_fork_in_parent()
    later.thread.join(0.05)
    assert later.events == []
    guard.after_fork_in_parent()
    until(lambda: later.events == ["inside"])
    later.end()


def test_a_fork_does_not_wait_for_ever(guard: ForkGuard) -> None:
    stubborn = Caller(guard, stubborn=True)
    stubborn.thread.start()
    until(lambda: stubborn.events)
    begun = time.monotonic()
    guard.before_fork()
    assert MOST_SECONDS <= time.monotonic() - begun < 2 * MOST_SECONDS + THREADS_SECONDS
    assert "hung up" not in stubborn.events
    guard.after_fork_in_child(survives=True)
    assert not guard.usable
    assert stubborn.events[-1] == "stranded"
    stubborn.end()


@pytest.mark.parametrize("survives", [True, False])
def test_a_child_of_a_fork_that_asked_for_nothing(guard: ForkGuard, survives: bool) -> None:
    """As uWSGI forks. Nobody was inside; whether gRPC still ran is not known."""
    guard.after_fork_in_child(survives=survives)
    assert guard.usable is survives


def test_a_child_of_a_fork_that_asked_for_nothing_with_a_call_under_way(guard: ForkGuard, caller: Caller) -> None:
    guard.after_fork_in_child(survives=True)
    assert not guard.usable


def test_grandchildren_can_not_send_where_children_can_not(guard: ForkGuard, caller: Caller) -> None:
    guard.after_fork_in_child(survives=True)
    guard.before_fork()
    guard.after_fork_in_child(survives=True)
    assert not guard.usable


def test_two_threads_may_fork_at_once(guard: ForkGuard) -> None:
    turns: list[str] = []

    def fork() -> None:
        guard.before_fork()
        turns.append("begun")
        turns.append("done")
        guard.after_fork_in_parent()

    threads = [threading.Thread(target=fork) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert turns == ["begun", "done"] * 8
