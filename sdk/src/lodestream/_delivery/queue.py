"""From the threads of the host to the writer: bounded in bytes, and never waited for."""

import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from lodestream._delivery.spool import Spool
from lodestream._diagnostics import report_internal_error, warn_dropped
from lodestream._wire.payloads import EncodedEvent

_MAX_WAITING = 10_000  # spans that end while another thread writes at the end of the process


class Scope(Protocol):
    """The instrumentation library that made a span; hashable."""

    @property
    def schema_url(self) -> str: ...
    @property
    def otlp(self) -> bytes: ...
    def __hash__(self) -> int: ...


class EndedSpan(Protocol):
    """A span that is not changed any more."""

    _weight: int
    """Bytes in memory, roughly."""
    _resource_otlp: bytes | None
    """The resource it is of, encoded, where it is not the client's."""

    @property
    def _scope(self) -> Scope: ...
    def _as_otlp(self) -> bytes: ...


Record = EndedSpan | EncodedEvent
"""What is delivered."""


class BoundedQueue:
    """Spans that ended, and events, not yet written. When it is full or closed, new ones are counted and dropped."""

    def __init__(self, max_bytes: int) -> None:
        self._most, self._bytes = max_bytes, 0
        self._spans: list[Record] = []
        # Reentrant: a signal handler or a finaliser may end a span while the same thread is in here.
        self._lock = threading.RLock()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = True
        self._taken = False
        self._closed = False
        self.accepted = 0
        self.dropped = 0

    def put(self, span: Record) -> None:
        """Take a span, and wake the writer if it sleeps."""
        with self._lock:
            if self._closed or (self._bytes + span._weight > self._most and self._spans):
                self.dropped += 1
                wake, drops = False, True
            else:
                self._bytes += span._weight
                self._spans.append(span)
                self.accepted += 1
                wake, self._asleep, drops = self._asleep, False, False
        if wake:
            self._bell.put(None)
        elif drops:
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        if self._closed:
            warn_dropped("shut down", 1, "they ended after the client was shut down")
        else:
            why = f"more than memory_max_bytes={self._most} waited in memory to be written to the spool"
            warn_dropped("memory", 1, why)

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

    def take(self, timeout: float = -1) -> list[Record]:
        """All there is; nothing when the lock was not to be had within `timeout` seconds.

        Taking again says that this has been written.
        """
        if not self._lock.acquire(timeout=timeout):
            return []
        try:
            taken, self._spans, self._bytes = self._spans, [], 0
            self._taken = bool(taken)
            self._asleep = not taken
        finally:
            self._lock.release()
        return taken


class LeftToParent:
    """Takes the place of the ring in the child of a fork: what began before the fork, the parent ends and records."""

    def put(self, span: Record) -> None:
        """Record nothing."""


class DirectWriter:
    """Takes the place of the ring when the process ends: whoever ends a span then writes it to the spool.

    It waits for no lock: a daemon thread that holds one when the interpreter ends never gives it back.
    """

    def __init__(
        self,
        new_spool: Callable[[], Spool],
        payloads_of: Callable[[Sequence[Record]], Iterator[tuple[bytes, int]]],
    ) -> None:
        self._new_spool, self._payloads_of = new_spool, payloads_of
        self._spans: deque[Record] = deque()
        self._spools = [new_spool()]
        self._writing = threading.Lock()
        self._closed = self._alone = False
        self.accepted = 0
        self.dropped = 0

    def put(self, span: Record) -> None:
        """Write a span. One that ends meanwhile, in a finaliser or another thread, is written by the same writer."""
        if sys.is_finalizing() and not self._alone:  # nobody else runs any more: what others hold is theirs for ever
            self._alone, self._writing = True, threading.Lock()
            self._spools.append(self._new_spool())
        if self._closed or len(self._spans) >= _MAX_WAITING:
            self.dropped += 1
            warn_dropped("at exit", 1, "they ended while the process did, after the client was shut down or too many")
            return
        self.accepted += 1
        self._spans.append(span)
        while self._spans and self._writing.acquire(blocking=False):
            try:
                while self._spans:
                    self._write(self._spans.popleft())
            finally:
                self._writing.release()

    def close(self) -> None:
        """Take no more."""
        self._closed = True

    def forget(self) -> None:
        """In the child of a fork: let go of the parent's files."""
        for spool in self._spools:
            spool.forget()

    @property
    def pending(self) -> int:
        """Spans in the spool, for the next process to deliver."""
        return self.accepted - self._failed

    @property
    def lost(self) -> int:
        """Spans that were not taken or could not be kept."""
        return self.dropped + self._failed

    @property
    def _failed(self) -> int:
        return sum(spool.counts.dropped for spool in self._spools)

    def _write(self, span: Record) -> None:
        spool = self._spools[-1]
        try:
            payloads = list(self._payloads_of([span]))
            spool.append(payloads)
        except Exception as error:
            payloads = []
            report_internal_error("writing a span at the end of the process", error)
        if not payloads or not spool.on_disk:
            spool.count_dropped(1)
            warn_dropped("at exit", 1, "they ended while the process did, and could not be written to disk")
