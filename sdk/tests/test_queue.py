"""The queue takes spans from any thread, within its bound, and never makes one wait."""

import gc
import signal
import sys
import threading
from typing import Any

from lodestream._delivery.queue import BoundedQueue

from sdk.tests.telling import Told

PLACE = Told("127.0.0.1:1", None)


def span(text: str = "") -> Any:
    made = PLACE.recorder.observe("n", "span", {})
    if text:
        made._put("text", text)
    return made


def test_it_is_bounded_in_bytes_and_counts_what_it_drops() -> None:
    pending = BoundedQueue(100_000)
    for _ in range(30):
        pending.put(span("x" * 10_000))
    assert (pending.accepted, pending.dropped) == (9, 21)
    assert len(pending.take()) == 9
    pending.put(span())
    assert pending.accepted == 10


def test_a_single_span_over_the_bound_is_taken() -> None:
    pending = BoundedQueue(1000)
    pending.put(span("x" * 10_000))
    pending.put(span())
    assert (pending.accepted, pending.dropped) == (1, 1)


def test_bytes_and_lists_weigh_what_they_hold() -> None:
    made = PLACE.recorder.observe("n", "span", {})
    before = made._weight
    made.set_attribute("bytes", b"x" * 1000)
    made.set_attribute("list", ["y" * 1000] * 3)
    made.set_attribute("number", 5)
    assert 4000 < made._weight - before < 4200


def test_waiting_tells_of_what_was_taken_and_is_not_written_yet() -> None:
    pending = BoundedQueue(1000)
    assert not pending.waiting
    pending.put(span())
    assert pending.waiting
    assert len(pending.take()) == 1
    assert pending.waiting
    assert pending.take() == []
    assert not pending.waiting


def test_the_writer_is_woken_once() -> None:
    pending = BoundedQueue(100_000)
    pending.put(span())
    pending.put(span())
    pending.wait(None)
    assert len(pending.take()) == 2
    assert pending.take() == []
    pending.wait(0.001)
    pending.put(span())
    pending.wait(None)


def test_closed_it_counts_and_takes_nothing() -> None:
    pending = BoundedQueue(1000)
    pending.put(span())
    pending.close()
    pending.put(span())
    assert (pending.accepted, pending.dropped, len(pending.take())) == (1, 1, 1)


def test_who_comes_in_where_its_own_thread_holds_the_lock_does_not_wait() -> None:
    pending = BoundedQueue(1 << 30)
    with pending._lock:
        pending.put(span())
    assert pending.accepted == 1


def test_signals_and_finalisers_may_come_at_any_moment() -> None:
    pending, taken = BoundedQueue(1 << 40), 0
    told: list[int] = []

    class Node:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            pending.put(shared)
            told.append(1)

    def interrupt(*_: object) -> None:
        pending.put(shared)
        told.append(1)

    shared = span()
    before, switch = signal.signal(signal.SIGALRM, interrupt), gc.get_threshold()
    gc.set_threshold(5)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0002)
    try:
        for _ in range(20_000):
            Node()
            pending.put(shared)
            told.append(1)
            taken += len(pending.take())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.set_threshold(*switch)
    gc.collect()
    assert pending.accepted == taken + len(pending.take())
    assert pending.accepted == len(told) > 40_000
    assert pending.dropped == 0


def test_no_span_is_lost_between_threads() -> None:
    pending, taken, done = BoundedQueue(1 << 40), list[Any](), threading.Event()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def read() -> None:
        while not done.is_set():
            pending.wait(0.1)
            taken.extend(pending.take())
        taken.extend(pending.take())

    def write(part: list[Any]) -> None:
        for one in part:
            pending.put(one)

    spans = [span() for _ in range(4000)]
    writers = [threading.Thread(target=write, args=(spans[at::4],)) for at in range(4)]
    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    pending.wake()
    reader.join()
    sys.setswitchinterval(interval)
    assert pending.accepted == 4000
    assert {id(one) for one in taken} == {id(one) for one in spans}
