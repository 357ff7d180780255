"""The ring takes spans from any thread, within its bound, and never makes one wait."""

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
    ring = BoundedQueue(100_000)
    for _ in range(30):
        ring.put(span("x" * 10_000))
    assert (ring.accepted, ring.dropped) == (9, 21)
    assert len(ring.take()) == 9
    ring.put(span())
    assert ring.accepted == 10


def test_a_single_span_over_the_bound_is_taken() -> None:
    ring = BoundedQueue(1000)
    ring.put(span("x" * 10_000))
    ring.put(span())
    assert (ring.accepted, ring.dropped) == (1, 1)


def test_bytes_and_lists_weigh_what_they_hold() -> None:
    made = PLACE.recorder.observe("n", "span", {})
    before = made._weight
    made.set_attribute("bytes", b"x" * 1000)
    made.set_attribute("list", ["y" * 1000] * 3)
    made.set_attribute("number", 5)
    assert 4000 < made._weight - before < 4200


def test_waiting_tells_of_what_was_taken_and_is_not_written_yet() -> None:
    ring = BoundedQueue(1000)
    assert not ring.waiting
    ring.put(span())
    assert ring.waiting
    assert len(ring.take()) == 1
    assert ring.waiting
    assert ring.take() == []
    assert not ring.waiting


def test_the_writer_is_woken_once() -> None:
    ring = BoundedQueue(100_000)
    ring.put(span())
    ring.put(span())
    ring.wait(None)
    assert len(ring.take()) == 2
    assert ring.take() == []
    ring.wait(0.001)
    ring.put(span())
    ring.wait(None)


def test_closed_it_counts_and_takes_nothing() -> None:
    ring = BoundedQueue(1000)
    ring.put(span())
    ring.close()
    ring.put(span())
    assert (ring.accepted, ring.dropped, len(ring.take())) == (1, 1, 1)


def test_who_comes_in_where_its_own_thread_holds_the_lock_does_not_wait() -> None:
    ring = BoundedQueue(1 << 30)
    with ring._lock:
        ring.put(span())
    assert ring.accepted == 1


def test_signals_and_finalisers_may_come_at_any_moment() -> None:
    ring, taken = BoundedQueue(1 << 40), 0
    told: list[int] = []

    class Node:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            ring.put(shared)
            told.append(1)

    def interrupt(*_: object) -> None:
        ring.put(shared)
        told.append(1)

    shared = span()
    before, switch = signal.signal(signal.SIGALRM, interrupt), gc.get_threshold()
    gc.set_threshold(5)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0002)
    try:
        for _ in range(20_000):
            Node()
            ring.put(shared)
            told.append(1)
            taken += len(ring.take())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.set_threshold(*switch)
    gc.collect()
    assert ring.accepted == taken + len(ring.take())
    assert ring.accepted == len(told) > 40_000
    assert ring.dropped == 0


def test_no_span_is_lost_between_threads() -> None:
    ring, taken, done = BoundedQueue(1 << 40), list[Any](), threading.Event()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def read() -> None:
        while not done.is_set():
            ring.wait(0.1)
            taken.extend(ring.take())
        taken.extend(ring.take())

    def write(part: list[Any]) -> None:
        for one in part:
            ring.put(one)

    spans = [span() for _ in range(4000)]
    writers = [threading.Thread(target=write, args=(spans[at::4],)) for at in range(4)]
    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    ring.wake()
    reader.join()
    sys.setswitchinterval(interval)
    assert ring.accepted == 4000
    assert {id(one) for one in taken} == {id(one) for one in spans}
