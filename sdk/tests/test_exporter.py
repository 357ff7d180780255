"""What servers answer, and what becomes of the spans then. Each server here is a real one."""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from lodestream._receipts import FlushReceipt

from sdk.tests.collector import Collector, names_of, refused, refused_with, taken
from sdk.tests.polling import until
from sdk.tests.telling import Told, segments

Telling = Callable[..., Told]
ONE_SECOND = 1.0
NAMES = [str(number) for number in range(100)]


@pytest.fixture
def telling(tmp_path: Path, collector: Collector) -> Iterator[Telling]:
    made: list[Told] = []

    def make(address: str = collector.address) -> Told:
        made.append(Told(address, tmp_path))
        return made[-1]

    yield make
    for told in made:
        told.pipeline.close(0.01)


def outcome(receipt: FlushReceipt) -> tuple[int, int, int]:
    return receipt.delivered, receipt.pending, receipt.dropped


def free_port() -> int:
    with socket.socket() as taken_for_now:
        taken_for_now.bind(("127.0.0.1", 0))
        return int(taken_for_now.getsockname()[1])


# --- Servers that take -----------------------------------------------------------------------------------------------


def test_what_was_told_is_delivered_once_and_nothing_is_left(
    telling: Telling, collector: Collector, tmp_path: Path
) -> None:
    told = telling()
    told.tell(*NAMES)
    receipt = told.pipeline.flush(10)
    assert outcome(receipt) == (100, 0, 0)
    assert receipt.complete
    assert receipt.problem == ""
    assert collector.delivered == Counter(NAMES)
    assert segments(tmp_path) == []
    assert collector.metadata[0]["authorization"] == "Bearer sk"
    assert collector.metadata[0]["lodestream-sdk-name"] == "lodestream-python"


def test_what_comes_together_within_the_interval_goes_together(telling: Telling, collector: Collector) -> None:
    told = telling()
    told.tell(*NAMES)
    until(lambda: collector.delivered.total() == 100)
    assert len(collector.requests) < 10
    assert all(len(request.resource_spans) == 1 for request in collector.requests)


@pytest.mark.parametrize(("rejected", "dropped"), [(3, 3), (10**6, 10), (-5, 0)])
def test_rejected_spans_are_counted_and_told(
    telling: Telling, collector: Collector, caplog: pytest.LogCaptureFixture, rejected: int, dropped: int
) -> None:
    collector.otherwise = taken(rejected=rejected, message="no end")
    told = telling()
    told.tell(*NAMES[:10])
    assert outcome(told.pipeline.flush(10)) == (10 - dropped, 0, dropped)
    assert ("no end" in caplog.text) == (dropped > 0)


def test_the_receipt_says_where_in_the_log(telling: Telling, collector: Collector) -> None:
    told = telling()
    for position in ("t:0:5", "t:1:7,t:0:4", f"t:0:{'9' * 5000},nonsense,:,t:2:x", ""):
        collector.script.append(taken(position=position))
        told.tell("a")
        assert told.pipeline.flush(10).pending == 0
    assert told.pipeline.position == "t:0:5,t:1:7"
    assert len(collector.requests) == 4


# --- Servers that refuse for now --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    ],
)
def test_it_comes_back(telling: Telling, collector: Collector, code: grpc.StatusCode) -> None:
    collector.script.extend([refused(code)] * 2)
    told = telling()
    told.tell(*NAMES[:10])
    assert outcome(told.pipeline.flush(10)) == (10, 0, 0)
    assert len(collector.requests) == 3
    assert collector.delivered == Counter(NAMES[:10])


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_it_comes_back_when_the_server_said(telling: Telling, collector: Collector, code: grpc.StatusCode) -> None:
    """Also when somebody is in a hurry."""
    collector.script.append(refused(code, retry_after=ONE_SECOND))
    told = telling()
    told.tell(*NAMES[:10])
    assert outcome(told.pipeline.flush(10)) == (10, 0, 0)
    first, second = collector.arrived
    assert ONE_SECOND <= second - first < 2 * ONE_SECOND


@pytest.mark.parametrize(("asked", "most"), [(0.0, 8), (3e11, 1)])
def test_absurd_times_are_clamped(telling: Telling, collector: Collector, asked: float, most: int) -> None:
    collector.otherwise = refused(grpc.StatusCode.UNAVAILABLE, retry_after=asked)
    told = telling()
    told.tell("a")
    receipt = told.pipeline.flush(ONE_SECOND)
    assert outcome(receipt) == (0, 1, 0)
    assert "UNAVAILABLE: as scripted" in receipt.problem
    assert 1 <= len(collector.requests) <= most
    before = time.monotonic()
    assert told.pipeline.close(0.2).durable
    assert time.monotonic() - before < 2


def test_a_wrong_key_keeps_the_spans_and_is_told(
    telling: Telling, collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collector.otherwise = refused(grpc.StatusCode.UNAUTHENTICATED)
    told = telling()
    told.tell(*NAMES)
    receipt = told.pipeline.flush(ONE_SECOND)
    assert outcome(receipt) == (0, 100, 0)
    assert receipt.durable
    assert "UNAUTHENTICATED: as scripted" in receipt.problem
    assert "spans are kept, they can't be delivered" in caplog.text
    assert len(collector.requests) <= 3
    assert segments(tmp_path)
    collector.otherwise = taken()
    assert outcome(told.pipeline.flush(10)) == (100, 0, 0)


# --- Servers that refuse for good -------------------------------------------------------------------------------------


def test_one_bad_span_costs_only_itself(telling: Telling, collector: Collector) -> None:
    collector.otherwise = refused_with("42", grpc.StatusCode.INVALID_ARGUMENT)
    told = telling()
    told.tell(*NAMES)
    assert outcome(told.pipeline.flush(10)) == (99, 0, 1)
    assert collector.delivered == Counter(name for name in NAMES if name != "42")
    assert len(collector.requests) < 20


def test_when_all_are_bad_all_are_dropped(telling: Telling, collector: Collector) -> None:
    collector.otherwise = refused(grpc.StatusCode.INVALID_ARGUMENT)
    told = telling()
    told.tell(*NAMES[:20])
    assert outcome(told.pipeline.flush(10)) == (0, 0, 20)
    collector.otherwise = taken()
    told.tell("next")
    assert outcome(told.pipeline.flush(10)) == (1, 0, 20)


def test_what_is_too_large_at_once_goes_in_parts(telling: Telling, collector: Collector) -> None:
    def small_only(request, context):
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
        return (refused(code) if len(names_of(request)) > 10 else taken())(request, context)

    collector.otherwise = small_only
    told = telling()
    told.tell(*NAMES)
    assert outcome(told.pipeline.flush(10)) == (100, 0, 0)
    assert collector.delivered == Counter(NAMES)


def test_a_span_that_the_server_fails_at_costs_only_itself(
    telling: Telling, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lodestream._delivery.exporter._HURRIED_WAIT", 0.01)
    collector.otherwise = refused_with("7", grpc.StatusCode.INTERNAL)
    told = telling()
    told.tell(*NAMES[:16])
    assert outcome(told.pipeline.flush(20)) == (15, 0, 1)
    assert set(collector.delivered.values()) == {1}


def test_a_server_that_fails_at_everything_is_not_hurried(telling: Telling, collector: Collector) -> None:
    collector.otherwise = refused(grpc.StatusCode.INTERNAL)
    told = telling()
    told.tell(*NAMES)
    assert outcome(told.pipeline.flush(2)) == (0, 100, 0)
    assert len(collector.requests) < 8


# --- Servers that are not there ---------------------------------------------------------------------------------------


def test_a_server_that_comes_later_gets_everything(telling: Telling) -> None:
    port = free_port()
    told = telling(f"127.0.0.1:{port}")
    told.tell(*NAMES)
    receipt = told.pipeline.flush(0.5)
    assert outcome(receipt) == (0, 100, 0)
    assert receipt.durable
    assert "UNAVAILABLE" in receipt.problem
    with Collector(port) as collector:
        assert outcome(told.pipeline.flush(15)) == (100, 0, 0)
        assert collector.delivered == Counter(NAMES)


def test_a_server_that_goes_and_comes_back_gets_everything(telling: Telling) -> None:
    port = free_port()
    told = telling(f"127.0.0.1:{port}")
    with Collector(port):
        told.tell(*NAMES[:50])
        assert told.pipeline.flush(15).complete
    told.tell(*NAMES[50:])
    assert told.pipeline.flush(0.5).pending == 50
    with Collector(port) as collector:
        assert outcome(told.pipeline.flush(15)) == (100, 0, 0)
        assert collector.delivered == Counter(NAMES[50:])


def unhurt(told: Told, spool: Path) -> None:
    """Whoever flushes or closes waits no longer than said, and loses nothing."""
    told.tell(*NAMES)
    before = time.monotonic()
    receipt = told.pipeline.flush(0.5)
    assert time.monotonic() - before < 1.5
    assert (outcome(receipt), receipt.durable) == ((0, 100, 0), True)
    before = time.monotonic()
    assert told.pipeline.close(0.5).durable
    assert time.monotonic() - before < 3
    assert segments(spool)


def test_a_server_that_never_answers(telling: Telling, collector: Collector, tmp_path: Path) -> None:
    collector.otherwise = collector.never
    unhurt(telling(), tmp_path)
    collector.otherwise = taken()
    collector.delivered.clear()
    following = telling()
    following.tell("next")
    until(lambda: collector.delivered == Counter([*NAMES, "next"]))
    until(lambda: segments(tmp_path) == [])
    assert following.pipeline.receipt().adopted == 100


def test_a_server_that_takes_connections_and_says_nothing(telling: Telling, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        unhurt(telling(f"127.0.0.1:{silent.getsockname()[1]}"), tmp_path)


def test_an_address_that_does_not_exist(telling: Telling, tmp_path: Path) -> None:
    unhurt(telling("nowhere.invalid:4317"), tmp_path)


def test_a_server_that_speaks_another_language(telling: Telling, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        told = telling(f"127.0.0.1:{other.getsockname()[1]}")
        told.tell("a")
        connection, _ = other.accept()
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.close()
        until(lambda: told.pipeline.receipt().problem)
        receipt = told.pipeline.receipt()
        assert (outcome(receipt), receipt.durable) == ((0, 1, 0), True)
    told.pipeline.close(0.1)
    assert segments(tmp_path)
