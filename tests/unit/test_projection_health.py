"""When a projection says that it is not well."""

from typing import Any

import pytest
from aiokafka import TopicPartition

from shared.event_log.assignment import Assignment
from shared.projection.lag_monitor import SILENT_SECONDS, STUCK_SECONDS, LagMonitor

ZERO, ONE = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
def assignment() -> Assignment:
    assignment = Assignment()
    assignment.assigned = frozenset({ZERO, ONE})
    assignment.read = {ZERO, ONE}
    return assignment


def watch_of(assignment: Assignment) -> LagMonitor:
    nothing: Any = None
    return LagMonitor(nothing, "traces", "t", assignment)


def test_reading_what_it_was_assigned_is_well(assignment: Assignment) -> None:
    assert watch_of(assignment).unhealthy_reason is None


def test_more_processes_than_partitions_are_well(assignment: Assignment) -> None:
    assignment.assigned, assignment.read = frozenset(), set()
    assert watch_of(assignment).unhealthy_reason is None


def test_before_the_group_has_dealt() -> None:
    assert watch_of(Assignment()).unhealthy_reason == "has not joined its group yet"


def test_waiting_for_positions(assignment: Assignment) -> None:
    assignment.read = {ONE}
    assert watch_of(assignment).unhealthy_reason == "1 partitions wait for their positions"


def test_halted(assignment: Assignment) -> None:
    assignment.halted = {ONE: "all is bad"}
    assert watch_of(assignment).unhealthy_reason == "partition 1 is halted: all is bad"


def test_lagging_is_well_while_it_moves(assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("shared.projection.lag_monitor.time.monotonic", lambda: now)
    watch = watch_of(assignment)
    watch.saw({ZERO: 5}, {ZERO: 100})
    now += STUCK_SECONDS
    watch.saw({ZERO: 6}, {ZERO: 99})
    now += STUCK_SECONDS
    watch.saw({ZERO: 6}, {ZERO: 99})
    assert watch.unhealthy_reason is None
    now += 1
    watch.saw({ZERO: 6}, {ZERO: 99})
    assert watch.unhealthy_reason == f"lags 99 records behind and has not moved for {STUCK_SECONDS} s"
    watch.saw({ZERO: 105}, {ZERO: 0})
    assert watch.unhealthy_reason is None


def test_a_watch_that_sees_nothing_any_more_is_not_well(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("shared.projection.lag_monitor.time.monotonic", lambda: now)
    watch = watch_of(assignment)
    watch.saw({ZERO: 5}, {ZERO: 0})
    now += SILENT_SECONDS
    assert watch.unhealthy_reason is None
    now += 1
    assert watch.unhealthy_reason == f"Kafka or Postgres has not answered for {SILENT_SECONDS + 1} s"
    watch.saw({ZERO: 5}, {ZERO: 0})
    assert watch.unhealthy_reason is None
