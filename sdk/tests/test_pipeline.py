"""The pipeline: every span is in exactly one of delivered, pending and dropped, whatever goes wrong around it."""

import math
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from lodestream._recording.readable import Scope
from opentelemetry.context import get_current

from sdk.tests.collector import Answer, Collector, refused, taken
from sdk.tests.polling import until
from sdk.tests.telling import Told, segments


@pytest.fixture
def told(collector: Collector, tmp_path: Path) -> Iterator[Told]:
    made = Told(collector.address, tmp_path)
    yield made
    made.pipeline.close(0.1)


def fickle(seed: int) -> Answer:
    """Takes half of the requests."""
    chance = random.Random(seed)

    def answer(request: Any, context: Any) -> Any:
        return chance.choice(
            [taken(), taken(), refused(grpc.StatusCode.UNAVAILABLE, retry_after=0.0), refused(grpc.StatusCode.ABORTED)]
        )(request, context)

    return answer


def test_nothing_runs_before_the_first_span(told: Told, tmp_path: Path) -> None:
    before = threading.active_count()
    receipt = told.pipeline.flush(10)
    assert (receipt.delivered, receipt.pending, receipt.dropped) == (0, 0, 0)
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("memory", [1 << 16, 1 << 24])
def test_each_span_is_counted_once(tmp_path: Path, collector: Collector, memory: int) -> None:
    collector.otherwise = fickle(7)
    told, stop = Told(collector.address, tmp_path, memory_max_bytes=memory), threading.Event()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    emitted = [0] * 8

    def work(number: int) -> None:
        for _ in range(1500):
            told.tell("n")
            emitted[number] += 1

    def watch() -> None:
        while not stop.is_set():
            seen = told.pipeline.receipt()
            assert min(seen.delivered, seen.dropped, seen.pending) >= 0, seen

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    watcher = threading.Thread(target=watch)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    receipt = told.pipeline.flush(30)
    stop.set()
    watcher.join()
    sys.setswitchinterval(interval)
    assert receipt.pending == 0
    assert receipt.delivered + receipt.dropped == sum(emitted) == 12_000
    assert receipt.delivered == collector.delivered["n"]
    assert told.pipeline.close(5).dropped == receipt.dropped


def test_spans_that_end_while_it_closes_are_counted(tmp_path: Path, collector: Collector) -> None:
    for _ in range(10):
        told, begun = Told(collector.address, tmp_path), threading.Event()
        emitted = [0] * 4

        def work(number: int, told: Told = told, begun: threading.Event = begun, emitted: list[int] = emitted) -> None:
            for _ in range(400):
                told.tell("n")
                emitted[number] += 1
                begun.set()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        begun.wait()
        told.pipeline.close(0.05)
        for thread in threads:
            thread.join()
        receipt = told.pipeline.receipt()
        assert receipt.delivered + receipt.pending + receipt.dropped == sum(emitted) == 1600
        assert receipt.durable


def test_after_the_end_spans_are_dropped_and_counted(told: Told) -> None:
    told.tell("a")
    assert told.pipeline.close(10).delivered == 1
    told.tell("b", "c")
    receipt = told.pipeline.flush(10)
    assert (receipt.delivered, receipt.pending, receipt.dropped) == (1, 0, 2)
    assert told.pipeline.close(10) == receipt


class Wordless:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_a_span_that_can_not_be_encoded_costs_only_itself(told: Told, collector: Collector) -> None:
    for number in range(100):
        span = told.recorder.observe(str(number), "span", {})
        if number == 42:
            span._put("x", Wordless())
        span.end()
    receipt = told.pipeline.flush(10)
    assert (receipt.delivered, receipt.pending, receipt.dropped) == (99, 0, 1)
    assert "42" not in collector.delivered


def test_a_library_that_can_not_be_named_costs_only_its_spans(told: Told) -> None:
    odd = Scope("odd", attributes={"x": Wordless()})
    for scope in (odd, Scope("fine")) * 5:
        told.recorder.start(scope, "n", get_current(), {}).end()
    receipt = told.pipeline.flush(10)
    assert (receipt.delivered, receipt.pending, receipt.dropped) == (5, 0, 5)


def no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_while_no_thread_can_be_started_spans_wait(
    told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        told.tell("a", "b")
        assert "can't start new thread" in caplog.text
        receipt = told.pipeline.flush(10)
        assert (receipt.pending, receipt.durable) == (2, False)
    told.tell("c")
    assert told.pipeline.flush(10).delivered == 3


def test_without_threads_the_end_leaves_spans_to_the_next_process(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        last = Told(collector.address, tmp_path)
        last.tell("a", "b")
        receipt = last.pipeline.close(1)
    assert (receipt.pending, receipt.durable) == (2, True)
    assert segments(tmp_path)
    following = Told(collector.address, tmp_path)
    following.tell("c")
    until(lambda: collector.delivered.total() == 3)
    following.pipeline.close(5)


def test_a_handler_may_tell_of_spans_while_the_threads_start(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name.startswith("lodestream"):
            told.tell("from the handler")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    told.tell("a")
    assert told.pipeline.flush(10).delivered == 3


def test_whoever_flushes_may_wait_for_ever(told: Told) -> None:
    told.tell("a")
    assert told.pipeline.flush(math.inf).complete


def test_without_a_server_and_a_disk_memory_is_bounded(tmp_path: Path) -> None:
    told = Told("127.0.0.1:1", None, memory_max_bytes=1 << 18)
    for _ in range(2000):
        told.recorder.observe("n", "span", {"input": "x" * 1000}).end()
    receipt = told.pipeline.flush(0.5)
    assert receipt.pending + receipt.dropped == 2000
    assert 100 < receipt.pending < 600
    assert not receipt.durable
    receipt = told.pipeline.close(0.1)
    assert (receipt.pending, receipt.dropped) == (0, 2000)
