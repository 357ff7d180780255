"""What goes wrong is told, once a minute, and raised only where tests ask for it."""

import logging

import pytest
from lodestream import _diagnostics
from lodestream._diagnostics import never_raises, report_internal_error, warn_once
from lodestream_evals import rate_limited_log


def test_each_subject_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        warn_once("a", "told")
    warn_once("b", "told too")
    assert [record.message for record in caplog.records] == ["told", "told too"]


def test_subjects_are_bounded() -> None:
    for number in range(10_000):
        warn_once(f"subject {number}", "x")
    assert len(rate_limited_log._warned_at) <= 1000


def test_logging_that_fails_is_no_matter() -> None:
    def fail(_record: logging.LogRecord) -> bool:
        raise RuntimeError("mine")

    _diagnostics.log.addFilter(fail)
    try:
        warn_once("a", "told")
        report_internal_error("doing", ValueError("x"))
    finally:
        _diagnostics.log.removeFilter(fail)


def test_what_is_guarded_raises_only_where_tests_ask_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @never_raises("instead")
    def fail() -> str:
        raise ValueError("why")

    monkeypatch.delenv("LODESTREAM_STRICT", raising=False)
    assert fail() == "instead"
    assert "ValueError: why" in caplog.text
    monkeypatch.setenv("LODESTREAM_STRICT", "1")
    with pytest.raises(ValueError, match="why"):
        fail()
