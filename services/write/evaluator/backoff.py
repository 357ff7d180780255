"""How long to wait before the next try. Pure but for chance, which is given."""

from collections.abc import Callable

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 60.0


def pause(attempt: int, *, retry_after: float | None, chance: Callable[[], float]) -> float:
    """Seconds after the n-th try (from 1) that failed: full jitter below 1, 2, 4 … 60; never before `retry_after`.

    `chance` gives numbers from 0 to 1. The jitter comes on top of what the provider asks for, so that not everybody is
    back at the same instant.
    """
    limit = min(FIRST_SECONDS * 2.0 ** min(attempt - 1, 30), LONGEST_SECONDS)
    return (retry_after or 0.0) + limit * chance()
