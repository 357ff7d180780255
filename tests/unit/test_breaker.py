"""When too much of a partition is bad, it stops."""

import pytest

from shared.read_model.projecting.breaker import Breaker, Outcome


@pytest.mark.parametrize(
    "outcomes",
    [
        [Outcome(0, 1)],
        [Outcome(9, 1)] * 20,  # a tenth is bad, but too few have been seen
        [Outcome(0, 99), Outcome(1_901, 0), Outcome(0, 50)],  # what is long ago no longer counts
        [Outcome(95, 5)] * 100,
    ],
)
def test_a_little_that_is_bad_costs_only_itself(outcomes: list[Outcome]) -> None:
    assert Breaker().after(outcomes).tripped is None


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        ([Outcome(0, 100), Outcome(5_000, 0)], "100 spans or records in a row could not be folded"),
        ([Outcome(0, 1)] * 100, "100 spans or records in a row could not be folded"),
        ([Outcome(94, 6)] * 10, "60 of the last 1000 spans and records could not be folded"),
        ([Outcome(949, 0), Outcome(0, 51)], "51 of the last 1000 spans and records could not be folded"),
    ],
)
def test_too_much_that_is_bad_trips(outcomes: list[Outcome], reason: str) -> None:
    assert Breaker().after(outcomes).tripped == reason


def test_looking_ahead_changes_nothing() -> None:
    breaker = Breaker()
    assert breaker.after([Outcome(0, 100)]).tripped
    assert breaker.after([Outcome(0, 99)]).tripped is None


@pytest.mark.parametrize("bad", [4, 7])
@pytest.mark.parametrize("step", [1, 3, 10])
def test_how_outcomes_are_batched_does_not_matter(bad: int, step: int) -> None:
    outcomes = [Outcome(100 - bad, bad)] * 30
    breaker = Breaker()
    for n in range(0, len(outcomes), step):
        breaker = breaker.after(outcomes[n : n + step])
    assert breaker.tripped == Breaker().after(outcomes).tripped
    assert bool(breaker.tripped) == (bad > 5)
