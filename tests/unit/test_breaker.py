"""A partition stops when our own code or schema must be at fault, and never because of one project's data."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.projection.breaker import MIN_BAD, RECENT, Breaker, Outcome

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)


def outcomes(project: str, good: int, bad: int, *, records: int = 1, at: datetime = NOON) -> list[Outcome]:
    return [Outcome(project, at, good, bad)] * records


def everybody(projects: int, good: int, bad: int, *, at: datetime = NOON) -> list[Outcome]:
    return [Outcome(f"p{number}", at, good, bad) for number in range(projects)]


@pytest.mark.parametrize("bad", [1, 1_000, 1_000_000])
def test_one_project_alone_never_stops_a_partition(bad: int) -> None:
    beside = everybody(5, good=10, bad=0)
    assert Breaker().after([*outcomes("rival", 0, bad), *beside]).tripped is None
    assert Breaker().after([*beside, *outcomes("rival", 0, bad, records=256)]).tripped is None


def test_a_project_that_is_alone_in_its_partition_is_only_suspicious() -> None:
    breaker = Breaker().after(outcomes("rival", 0, 1, records=MIN_BAD))
    assert breaker.tripped is None
    assert breaker.suspicious


def test_some_projects_with_bad_data_among_others_stop_nobody() -> None:
    some = [*outcomes("a", 0, 500), *outcomes("b", 0, 500), *outcomes("c", 0, 500)]
    breaker = Breaker().after([*some, *everybody(4, good=10, bad=0)])
    assert (breaker.tripped, breaker.suspicious) == (None, None)


@pytest.mark.parametrize(
    "each", [(3, 0, 50), (100, 0, 1), (10, 90, 10)], ids=["few with much", "many with one each", "a tenth of each"]
)
def test_many_failing_projects_are_no_coincidence(each: tuple[int, int, int]) -> None:
    projects, good, bad = each
    reason = f"items of {projects} of {projects} projects could not be folded: most likely a fault of ours"
    assert Breaker().after(everybody(projects, good, bad)).tripped == reason


def test_a_project_that_writes_a_lot_counts_no_more_than_others() -> None:
    assert Breaker().after([*outcomes("rival", 0, 10_000), *everybody(2, good=0, bad=1)]).tripped is None


def test_what_is_long_ago_counts_no_more() -> None:
    long_ago = NOON - RECENT - timedelta(seconds=1)
    breaker = Breaker().after([*outcomes("a", 0, 50, at=long_ago), *outcomes("b", 0, 50, at=long_ago)])
    assert breaker.after(outcomes("c", 0, 50)).tripped is None
    assert breaker.after([*everybody(3, good=0, bad=50)]).tripped


def test_a_flood_of_projects_is_remembered_within_bounds() -> None:
    breaker = Breaker().after(everybody(5_000, good=1, bad=0))
    assert len(breaker._projects) == 1_000


def test_a_hundred_unreadable_records_in_a_row_stop_the_partition() -> None:
    """No project can write them: only gateways write to the log."""
    assert Breaker().after(outcomes("", 0, 1, records=99)).tripped is None
    reason = "100 records in a row can't be read; only a gateway writes to the log"
    assert Breaker().after(outcomes("", 0, 1, records=99)).after(outcomes("", 0, 1)).tripped == reason
    interrupted = [*outcomes("", 0, 1, records=99), *outcomes("a", 1, 0), *outcomes("", 0, 1, records=99)]
    assert Breaker().after(interrupted).tripped is None


def test_looking_ahead_changes_nothing() -> None:
    breaker = Breaker()
    assert breaker.after(everybody(3, good=0, bad=50)).tripped
    assert breaker.after(everybody(2, good=0, bad=50)).tripped is None
