"""The states of runs, as they are typed."""

import enum


class State(enum.StrEnum):
    """Of a run."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    BUDGET_SPENT = "budget-spent"
