"""Numbers and instants for people."""

from datetime import UTC, date, timedelta, timezone

import pytest
from lodestream_proto.v1.trace_pb2 import Tokens

from services.edge.cli.render.quantities import clock, cost, count, date_and_time, duration, instants, share, tokens
from tests.unit.cli_spans import at


@pytest.mark.parametrize(
    ("us", "shown"),
    [
        (0, "0 µs"),
        (999, "999 µs"),
        (1_000, "1.00 ms"),
        (9_994, "9.99 ms"),
        (9_996, "10.0 ms"),
        (99_960, "100 ms"),
        (999_499, "999 ms"),
        (999_500, "1.00 s"),
        (1_843_000, "1.84 s"),
        (59_949_999, "59.9 s"),
        (59_950_000, "1m 00s"),
        (3_599_400_000, "59m 59s"),
        (3_599_600_000, "1h 00m"),
        (7_500_000_000, "2h 05m"),
        (273_600_000_000, "3d 04h"),
    ],
)
def test_durations_take_the_unit_that_fits(us: int, shown: str) -> None:
    assert duration(us) == shown


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (0.0, ""),
        (0.000_000_1, "<$0.00001"),
        (0.000_024, "$0.000024"),
        (0.000_123_4, "$0.000123"),
        (0.0123, "$0.0123"),
        (0.9994, "$0.999"),
        (0.9999, "$1.00"),
        (12.345, "$12.35"),
        (1_234.5, "$1,234"),
    ],
)
def test_costs_keep_what_matters(usd: float, shown: str) -> None:
    assert cost(usd) == shown


def test_counts() -> None:
    assert [count(number) for number in (0, 1_234, 9_999, 12_345, 999_499, 4_560_000)] == [
        "0", "1,234", "9,999", "12.3k", "999k", "4.56M",
    ]  # fmt: skip


def test_tokens_tell_what_was_sent_from_what_came_back() -> None:
    assert tokens(Tokens(input=812, output=214, total=1_026)) == "812→214"
    assert tokens(Tokens(total=1_026)) == "1,026"
    assert tokens(Tokens()) == ""


def test_shares() -> None:
    assert [share(part, 1_000) for part in (0, 1, 9, 224, 1_000)] == ["0 %", "<1 %", "<1 %", "22 %", "100 %"]
    assert share(5, 0) == "0 %"


def test_instants_of_today_need_no_date() -> None:
    column = [at(0), at(1_500_000)]
    assert instants(column, UTC, date(2026, 9, 21)) == ["14:13:20", "14:13:21"]
    assert instants(column, UTC, date(2026, 9, 22)) == ["09-21 14:13:20", "09-21 14:13:21"]
    assert instants(column, UTC, date(2027, 1, 1)) == ["2026-09-21 14:13", "2026-09-21 14:13"]
    assert instants([], UTC, date(2027, 1, 1)) == []


def test_instants_are_told_in_the_zone_asked_for() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    assert clock(at(123_456), zone) == "19:43:20.1"
    assert date_and_time(at(123_456), zone) == "2026-09-21 19:43:20.123"
