"""What is dropped is counted in receipts and logged with its reason: at once, then once a minute with how many."""

import logging
import re
from pathlib import Path

import grpc
import pytest
from lodestream import _diagnostics
from lodestream._delivery.pipeline import Pipeline
from lodestream._recording.recorder import Recorder
from lodestream._settings import Settings, parse_endpoint

from sdk.tests.collector import Collector, refused_with, taken
from sdk.tests.polling import until
from sdk.tests.telling import RESOURCE, Told


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "lodestream")


def logged(caplog: pytest.LogCaptureFixture) -> dict[str, list[int]]:
    """The numbers in the lines that tell of drops, by their reason."""
    found: dict[str, list[int]] = {}
    for record in caplog.records:
        if match := re.match(r"(\d+) observations or scores were dropped: (.*)", record.message):
            found.setdefault(match[2].partition("=")[0].partition(": ")[0], []).append(int(match[1]))
    return found


def test_more_than_memory_holds(collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a healthy disk too, where spans come faster than they are written."""
    told = Told(collector.address, tmp_path, memory_max_bytes=100_000)
    with told.pipeline._ring._lock:  # the writer waits
        for number in range(200):
            told.recorder.observe(f"a {number}", "span", {"input": "x" * 20_000}).end()
    receipt = told.pipeline.close(10)
    (counts,) = logged(caplog).values()
    assert "more than memory_max_bytes=100000 waited in memory" in caplog.text
    assert receipt.dropped == sum(counts) == 200 - receipt.delivered > 190
    assert counts[0] == 1
    assert len(counts) == 2


def test_what_ends_after_the_shutdown(collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = Told(collector.address, tmp_path)
    open_still = [told.recorder.observe("a", "span", {}) for _ in range(5)]
    told.pipeline.close(5)
    for span in open_still:
        span.end()
    assert told.pipeline.close(1).dropped == 5
    assert logged(caplog) == {"they ended after the client was shut down": [1]}


def test_what_the_server_refuses(collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    collector.otherwise = refused_with("bad", grpc.StatusCode.INVALID_ARGUMENT)
    told = Told(collector.address, tmp_path)
    told.tell("good", *["bad"] * 7, "good")
    receipt = told.pipeline.flush(30)
    told.pipeline.close(1)
    assert (receipt.delivered, receipt.dropped) == (2, 7)
    assert logged(caplog) == {"the server does not take them": [1, 6]}
    collector.otherwise = taken(rejected=3, message="too old")
    again = Told(collector.address, tmp_path)
    again.tell("a", "b", "c", "d")
    assert again.pipeline.flush(30).dropped == 3
    again.pipeline.close(1)
    assert logged(caplog)["the server rejected them for good"] == [3]


def test_more_than_the_spool_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(endpoint=parse_endpoint("127.0.0.1:1"), secret_key="sk", spool_max_bytes=200_000)
    pipeline = Pipeline(settings, RESOURCE, tmp_path)
    recorder = Recorder(settings, pipeline)
    for number in range(50):
        recorder.observe("a", "span", {"input": "x" * 20_000}).end()
        if number % 5 == 4:
            until(lambda: not pipeline._ring.waiting)
    receipt = pipeline.close(5)
    (reason,) = logged(caplog)
    assert reason == "the oldest had to go, the spool holds spool_max_bytes"
    assert receipt.dropped == sum(logged(caplog)[reason]) > 30


def test_a_minute_later_it_is_logged_again(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr("lodestream_evals.rate_limited_log.time.monotonic", lambda: now[0])
    for _ in range(10):
        _diagnostics.warn_dropped("memory", 2, "why")
    now[0] += 59
    _diagnostics.log_dropped()
    assert logged(caplog) == {"why": [2]}
    now[0] += 2
    _diagnostics.log_dropped()
    _diagnostics.log_dropped()
    assert logged(caplog) == {"why": [2, 18]}
