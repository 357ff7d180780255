"""What a long command tells while it works: one JSON document a line on standard output, for people to be drawn."""

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

import orjson

Tell = Callable[..., None]
"""`tell("progress", phase="folding", …)`."""
_EVERY_SECONDS = 1.0
_WINDOW_SECONDS = 20.0


def tell(event: str, **fields: Any) -> None:
    """Write an event."""
    sys.stdout.buffer.write(orjson.dumps({"event": event, **fields}, default=_plain) + b"\n")
    sys.stdout.buffer.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError


class Pace:
    """How far a phase has come and how fast: told once a second."""

    def __init__(self, tell: Tell, phase: str, *, done: int, total: int, unit: str = "records") -> None:
        """`done` and `total` count in this unit."""
        self._tell, self._phase, self._unit = tell, phase, unit
        self._done, self._total, self._items = done, total, 0
        self._told_at = time.monotonic()
        self._seen = deque([(self._told_at, done, 0)])

    def add(self, count: int, items: int = 0) -> None:
        """So much more is done; items are the spans in it, or the like."""
        self._done += count
        self._items += items
        now = time.monotonic()
        if now - self._told_at >= _EVERY_SECONDS:
            self.show(now)

    def show(self, now: float | None = None) -> None:
        """Tell it now. The rates are those of the last seconds."""
        now = self._told_at = now or time.monotonic()
        self._seen.append((now, self._done, self._items))
        while now - self._seen[0][0] > _WINDOW_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        since, done, items = self._seen[0]
        elapsed = max(now - since, 1e-3)
        rate = (self._done - done) / elapsed
        left = max(0, self._total - self._done)
        self._tell(
            "progress",
            phase=self._phase,
            unit=self._unit,
            done=self._done,
            of=max(self._total, self._done),
            percent=round(100 * self._done / max(self._total, self._done, 1), 1),
            items_per_second=round((self._items - items) / elapsed),
            eta_seconds=round(left / rate) if rate else None,
        )
