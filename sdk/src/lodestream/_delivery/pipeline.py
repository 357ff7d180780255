"""From a span that ended to the server: the ring, the writer's thread, the spool, the exporter's thread."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lodestream._delivery.exporter import Exporter
from lodestream._delivery.queue import BoundedQueue, DirectWriter, LeftToParent, Record, Scope
from lodestream._delivery.spool import Spool
from lodestream._delivery.transport import Positions, Transport
from lodestream._diagnostics import log_dropped, never_raises, report_internal_error, warn_dropped, warn_once
from lodestream._lifecycle import close_with_process, is_ending, never_starts_threads, start_thread
from lodestream._receipts import FlushReceipt
from lodestream._settings import Settings
from lodestream._wire.otlp import scope_spans_of
from lodestream._wire.payloads import EncodedEvent

_GATHER_SECONDS = 0.02
"""Spans that end within it are written together; a SIGKILL takes what is not written. At 2,000 spans a second 5 ms cost
a sixth more CPU (35 µs a span instead of 30), 50 ms save nothing."""
_SYNC_SECONDS = 0.5
_RETRY_DISK_SECONDS = 30.0
_FRAME_SPANS, _FRAME_BYTES = 64, 256 * 1024
_EXIT_SECONDS = 1.0


class Pipeline:
    """Nothing runs before the first span: a process may be forked until then without a thought."""

    def __init__(self, settings: Settings, resource: bytes, spool_root: Path | None) -> None:
        self._settings, self._resource, self._spool_root = settings, resource, spool_root
        self._ring = BoundedQueue(settings.memory_max_bytes)
        self._intake: BoundedQueue | DirectWriter | LeftToParent = self._ring
        """What takes spans that ended."""
        self._spool = self._new_spool()
        self._positions = Positions()
        self._exporter = Exporter(
            self._spool,
            Transport(settings),
            interval=settings.flush_interval,
            positions=self._positions,
            hurry=lambda: self._hurry[-1] if self._hurry else 0,
        )
        self._lock = threading.RLock()  # a signal handler may come in where its own thread holds it
        self._to_start = [None]
        self._hurry: list[int] = []
        self._flushes = 0
        self._threads: tuple[threading.Thread, ...] = ()
        self._state = "new"

    # --- Any thread of the host's -------------------------------------------------------------------------------------

    def emit(self, span: Record) -> None:
        """Take a span that ended, or an event. Never waits."""
        if self._state == "new":
            self._start()
        self._intake.put(span)

    def flush(self, timeout: float, *, give_up: bool = False) -> FlushReceipt:
        """Wait until every span that ended before is delivered or dropped, at most `timeout` seconds.

        `give_up`: not longer than until an attempt failed, if what is pending is safe on disk.
        """
        with self._lock:  # not while another thread is just starting ours
            if self._state != "running":
                return self.receipt()
        target, spool, before = self._ring.accepted, self._spool, self._exporter.attempts_failed

        def done() -> bool:
            settled = spool.counts.delivered + spool.counts.dropped >= target
            tried = self._exporter.attempts_failed != before
            return settled or (give_up and tried and spool.on_disk and not self._ring.waiting)

        with self._hurrying(), spool.changed:
            spool.changed.notify_all()
            spool.changed.wait_for(done, min(timeout, threading.TIMEOUT_MAX))
        log_dropped(all_now=True)
        return self.receipt()

    @contextmanager
    def _hurrying(self) -> Iterator[None]:
        """Somebody waits."""
        with self._lock:
            self._flushes += 1
            mine = self._flushes
            self._hurry.append(mine)
        self._ring.wake()
        try:
            yield
        finally:
            with self._lock:
                self._hurry.remove(mine)

    def deliver_left(self, timeout: float) -> bool:
        """Look for what processes that are gone left, and wait until it is delivered, at most `timeout` seconds."""
        end, before = time.monotonic() + timeout, self._exporter.looks
        if self._state == "new":
            self._start()
        self._exporter.look()
        with self._hurrying(), self._spool.changed:
            while self._exporter.looks == before or self._spool.orphans:
                if self._state != "running" or time.monotonic() >= end:
                    return False
                self._spool.changed.wait(0.05)
        return True

    @property
    def has_room(self) -> bool:
        """Whether much can be told at once without anything being dropped for want of memory."""
        return self._ring.has_room

    def receipt(self) -> FlushReceipt:
        """What has become of the spans so far."""
        with self._spool.changed:
            counts, accepted = self._spool.counts, self._ring.accepted
            pending, dropped = accepted - counts.delivered - counts.dropped, counts.dropped + self._ring.dropped
            if isinstance(self._intake, DirectWriter):
                pending, dropped = pending + self._intake.pending, dropped + self._intake.lost
            return FlushReceipt(
                delivered=counts.delivered,
                pending=pending,
                dropped=dropped,
                adopted=counts.adopted,
                durable=self._spool.on_disk and not self._ring.waiting,
                position=self._positions.token,
                problem=self._exporter.problem if pending else "",
            )

    @property
    def position(self) -> str:
        """The position in the server's log of all that was delivered."""
        return self._positions.token

    def close(self, timeout: float) -> FlushReceipt:
        """Deliver what can be within `timeout` seconds, leave the rest in the spool, and end the threads."""
        return self._close(timeout, for_good=True)

    def close_at_exit(self, timeout: float) -> None:
        """Close with the process. What ends from then on is still taken, and written to the spool at once."""
        self._close(timeout, for_good=False)

    def _close(self, timeout: float, *, for_good: bool) -> FlushReceipt:
        receipt = self.flush(timeout, give_up=True)
        with self._lock:
            was, self._state = self._state, "closed"
            threads = [thread for thread in self._threads if thread.ident is not None]
        if not for_good and not isinstance(self._intake, DirectWriter) and was != "closed":
            self._intake = DirectWriter(self._new_spool, self._payloads)
        elif for_good and isinstance(self._intake, DirectWriter):
            self._intake.close()
        if was == "closed":
            return receipt
        self._exporter.stop()
        self._ring.close()
        self._ring.wake()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(_EXIT_SECONDS)
        if not any(thread.is_alive() for thread in threads):
            self._write_out()  # there is something when no thread could be started
            self._spool.close()
        log_dropped(all_now=True)
        return self.receipt()

    def forget(self) -> None:
        """In the child of a fork: what is in here belongs to the parent."""
        self._state = "closed"
        if isinstance(self._intake, DirectWriter):
            self._intake.forget()
        self._intake = LeftToParent()
        self._ring = BoundedQueue(0)  # a thread that is not in here may hold the other one's lock
        self._ring.close()
        self._spool.forget()

    # --- The writer's thread ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        close_with_process(self)  # first: the process may end while another thread is in here, with spans in the ring
        try:
            self._to_start.pop()  # atomic: a signal handler may be told of a span while its own thread is in here
        except IndexError:
            return
        if is_ending():
            self._write_directly()
            return
        with self._lock:
            if self._state != "new":
                return
            self._threads = self._threads or (
                threading.Thread(target=self._write, name="lodestream-writer", daemon=True),
                threading.Thread(target=self._exporter.run, name="lodestream-exporter", daemon=True),
            )
            try:
                for thread in self._threads:
                    if thread.ident is None:
                        start_thread(thread)
                self._state = "running"
            except RuntimeError as error:
                if never_starts_threads():
                    self._write_directly()
                else:
                    warn_once("threads", f"no thread can be started, spans wait in memory: {error}")
                    self._to_start.append(None)

    def _write_directly(self) -> None:
        """From now on whoever ends a span writes it: the process is ending, and has no other threads any more."""
        self._intake = DirectWriter(self._new_spool, self._payloads)
        self._state = "direct"
        waiting = self._ring.take(timeout=_EXIT_SECONDS)
        self._ring.accepted -= len(waiting)
        for span in waiting:
            self._intake.put(span)

    def _new_spool(self) -> Spool:
        return Spool(
            self._spool_root,
            max_bytes=self._settings.spool_max_bytes,
            memory_max_bytes=self._settings.memory_max_bytes,
            fsync=self._settings.fsync,
        )

    def _write(self) -> None:
        retry_at = time.monotonic() + _RETRY_DISK_SECONDS
        sync_at = 0.0
        while True:
            self._ring.wait(max(sync_at - time.monotonic(), 0) if self._spool.dirty else None)
            if not self._hurry and self._state == "running":
                time.sleep(_GATHER_SECONDS)
            self._write_out()
            now = time.monotonic()
            if now >= sync_at:
                self._sync()
                sync_at = now + _SYNC_SECONDS
            if now >= retry_at:
                self._spool.retry_disk()
                retry_at = now + _RETRY_DISK_SECONDS
            if self._state == "closed" and not self._ring.waiting:
                return

    @never_raises(None)
    def _write_out(self) -> None:
        while spans := self._ring.take():
            try:
                payloads = list(self._payloads(spans))
            except Exception as error:
                payloads = []
                report_internal_error("encoding spans", error)
            if lost := len(spans) - sum(count for _, count in payloads):
                self._spool.count_dropped(lost)
                warn_dropped("encoding", lost, "they could not be encoded")
            if payloads:
                self._spool.append(payloads)

    @never_raises(None)
    def _sync(self) -> None:
        self._spool.sync()

    def _payloads(self, spans: Sequence[Record]) -> Iterator[tuple[bytes, int]]:
        """ResourceSpans of some spans each, and events. A span that can't be encoded is told, and left out."""
        heads: dict[Scope, bytes] = {}
        by_scope: dict[Scope, list[bytes]] = {}
        resource = self._resource
        count = size = 0
        for span in spans:
            if isinstance(span, EncodedEvent):
                yield span.payload, 1
                continue
            try:
                encoded = span._as_otlp()
                if span._scope not in heads:
                    heads[span._scope] = span._scope.otlp
            except Exception as error:
                report_internal_error("encoding a span", error)
                continue
            own_resource = span._resource_otlp or self._resource
            if count and (count == _FRAME_SPANS or size + len(encoded) > _FRAME_BYTES or own_resource is not resource):
                yield _payload(resource, heads, by_scope), count
                by_scope.clear()
                count = size = 0
            resource = own_resource
            by_scope.setdefault(span._scope, []).append(encoded)
            count, size = count + 1, size + len(encoded)
        if count:
            yield _payload(resource, heads, by_scope), count


def _payload(resource: bytes, heads: Mapping[Scope, bytes], by_scope: Mapping[Scope, Sequence[bytes]]) -> bytes:
    parts = [scope_spans_of(heads[scope], spans, scope.schema_url) for scope, spans in by_scope.items()]
    return b"".join((resource, *parts))
