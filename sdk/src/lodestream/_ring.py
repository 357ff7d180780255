"""From the threads of the host to the writer: bounded in bytes, and never waited for."""

import queue
import threading

from lodestream._event import EncodedEvent
from lodestream._span import Observation


class Ring:
    """Spans that ended, and events, not yet written. When it is full or closed, new ones are counted and dropped."""

    def __init__(self, max_bytes: int) -> None:
        self._most, self._bytes = max_bytes, 0
        self._spans: list[Observation | EncodedEvent] = []
        # Reentrant: a signal handler or a finaliser may end a span while the same thread is in here.
        self._lock = threading.RLock()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = True
        self._taken = False
        self._closed = False
        self.accepted = 0
        self.dropped = 0

    def put(self, span: Observation | EncodedEvent) -> None:
        """Take a span, and wake the writer if it sleeps."""
        with self._lock:
            if self._closed or (self._bytes + span.weight > self._most and self._spans):
                self.dropped += 1
                return
            self._bytes += span.weight
            self._spans.append(span)
            self.accepted += 1
            wake, self._asleep = self._asleep, False
        if wake:
            self._bell.put(None)

    def close(self) -> None:
        """Take no more."""
        with self._lock:
            self._closed = True

    @property
    def has_room(self) -> bool:
        """Whether it is at most half full."""
        return 2 * self._bytes <= self._most

    @property
    def waiting(self) -> bool:
        """Whether there is something that was not taken, or what was taken last is still being written."""
        return self._taken or bool(self._spans)

    def wake(self) -> None:
        """Let the writer look."""
        self._bell.put(None)

    def wait(self, timeout: float | None) -> None:
        """Sleep until there is something, or `wake` was called, or the time is over."""
        try:
            self._bell.get(timeout=timeout)
        except queue.Empty:
            return

    def take(self) -> list[Observation | EncodedEvent]:
        """All there is. Taking again says that this has been written."""
        with self._lock:
            taken, self._spans, self._bytes = self._spans, [], 0
            self._taken = bool(taken)
            self._asleep = not taken
        return taken
