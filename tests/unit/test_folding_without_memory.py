"""Memory that runs out is no fault of the span that was being folded."""

from datetime import UTC, datetime

import pytest

from services.projections.traces import batch
from shared.event_log.codec import LogRecord
from tests.support.records import event, span


@pytest.mark.parametrize("step", ["sources_in", "read_revision", "fold"])
def test_no_span_is_set_aside_because_memory_ran_out(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    told = event([span(1, 1)], project="acme")
    record = LogRecord("traces", 0, 0, datetime(2026, 5, 6, tzinfo=UTC), told.SerializeToString(), told)

    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(batch, step, exhausted)
    with pytest.raises(MemoryError):
        batch.fold_records([record])
