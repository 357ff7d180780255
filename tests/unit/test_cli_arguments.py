"""What people type."""

from datetime import UTC, datetime, timedelta

import pytest

from services.edge.cli.arguments import duration, instant, trace_id


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("2s", timedelta(seconds=2)),
        ("2 S", timedelta(seconds=2)),
        ("1.5h", timedelta(minutes=90)),
        ("1h30m", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("10us", timedelta(microseconds=10)),
        ("0s", timedelta()),
    ],
)
def test_durations(text: str, meant: timedelta) -> None:
    assert duration(text) == meant


@pytest.mark.parametrize("text", ["", "2", "s", "2x", "-2s", "2s!", "1h 30m", "1e3s", "٣s", "99999999999d", "nan"])
def test_what_is_no_duration_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write 250ms"):
        duration(text)


def test_a_duration_that_no_calendar_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than a hundred years"):
        duration("999999999d999999999d")


def test_instants() -> None:
    assert instant("2026-03-01T12:00:00Z") == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert instant("2026-03-01T12:00:00+05:30") == datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
    assert instant("2026-03-01") == datetime(2026, 3, 1).astimezone(UTC)  # midnight here
    for text in ("", "yesterday", "2026-13-01", "0001-01-01T00:00+23:59"):
        with pytest.raises(ValueError, match="is not a time: write 2026-03-01"):
            instant(text)


def test_trace_ids_are_whole() -> None:
    assert trace_id("0AF7651916CD43DD8448EB211C80319C") == "0af7651916cd43dd8448eb211c80319c"
    assert trace_id("latest") == "latest"
    for text in ("", "0af7", "g" * 32, "0af7651916cd43dd8448eb211c80319c0"):
        with pytest.raises(ValueError, match="is not a trace id: write all of its 32 hex digits"):
            trace_id(text)
