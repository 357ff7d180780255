"""How much a project may send: token buckets of bytes and of spans, that may be overdrawn by what was let in."""

from collections import OrderedDict
from collections.abc import Callable

from shared.runtime.fairness import Bucket

_REMEMBERED = 10_000


class Quotas:
    """The buckets of each project, for one gateway process."""

    def __init__(
        self, *, bytes_per_second: float, spans_per_second: float, burst_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._rates = (bytes_per_second, spans_per_second)
        self._burst_seconds = burst_seconds
        self._clock = clock
        self._projects: OrderedDict[str, tuple[Bucket, Bucket]] = OrderedDict()

    def wait(self, project_id: str) -> float:
        """Seconds until the project may send again; 0.0: now."""
        now = self._clock()
        return max(bucket.wait(now) for bucket in self._buckets(project_id))

    def take(self, project_id: str, *, size: int = 0, spans: int = 0) -> None:
        """Count what a project has sent."""
        now = self._clock()
        of_bytes, of_spans = self._buckets(project_id)
        of_bytes.take(size, now)
        of_spans.take(spans, now)

    def _buckets(self, project_id: str) -> tuple[Bucket, Bucket]:
        buckets = self._projects.get(project_id)
        if buckets is None:
            now, burst = self._clock(), self._burst_seconds
            of_bytes, of_spans = (Bucket(rate, rate * burst, now) for rate in self._rates)
            buckets = self._projects[project_id] = (of_bytes, of_spans)
            if len(self._projects) > _REMEMBERED:
                self._projects.popitem(last=False)
        self._projects.move_to_end(project_id)
        return buckets
