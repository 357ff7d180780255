"""The same seed strikes the same way, within its time, and never twice at one thing."""

from itertools import pairwise

from tests.torture.schedule import plan

TARGETS = ("gateway", "traces-0", "traces-1", "traces-2", "kafka", "postgres", "client", "log", "rows", "sessions")


def test_a_seed_is_a_schedule() -> None:
    assert plan("7", 120, TARGETS) == plan("7", 120, TARGETS)
    assert plan("7", 120, TARGETS) != plan("8", 120, TARGETS)


def test_every_strike_ends_in_time_and_none_overlaps_another_of_its_target() -> None:
    strikes = plan("7", 300, TARGETS)
    assert len(strikes) > 60
    assert max(strike.at + strike.lasts for strike in strikes) <= 300
    for target in TARGETS:
        its = [strike for strike in strikes if strike.target == target]
        assert its, f"{target} is never struck"
        assert all(one.at + one.lasts < other.at for one, other in pairwise(its))


def test_what_is_not_there_is_not_struck() -> None:
    assert {strike.target for strike in plan("7", 60, ("gateway",))} == {"gateway"}
