"""How much a project may send: token buckets of bytes and of spans, that may be overdrawn by what was let in."""

from collections.abc import Callable

from shared.runtime.fairness import Buckets


class Quotas:
    """The buckets of each project, for one gateway process."""

    def __init__(
        self, *, bytes_per_second: float, spans_per_second: float, burst_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._bytes = Buckets(bytes_per_second, bytes_per_second * burst_seconds, clock)
        self._spans = Buckets(spans_per_second, spans_per_second * burst_seconds, clock)

    def wait(self, project_id: str) -> float:
        """Seconds until the project may send again; 0.0: now."""
        now = self._clock()
        return max(buckets.of(project_id).wait(now) for buckets in (self._bytes, self._spans))

    def take(self, project_id: str, *, size: int = 0, spans: int = 0) -> None:
        """Count what a project has sent."""
        now = self._clock()
        self._bytes.of(project_id).take(size, now)
        self._spans.of(project_id).take(spans, now)
