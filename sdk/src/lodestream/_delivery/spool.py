"""The spool: what ended and is not delivered yet, kept on disk so that it survives the process.

Which frames are settled is known in memory only. There is no file of positions that could disagree with the segments:
after a crash a whole segment is sent again, and the server recognises what it has.
"""

import contextlib
import errno
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lodestream._delivery.segment import FileStorage, Frame, MemoryStorage, Segment
from lodestream._delivery.spool_dir import Orphan, SpoolDir, create_dir, find_orphans
from lodestream._diagnostics import log, report_internal_error, warn_dropped, warn_once
from lodestream._settings import MIB, Fsync

BATCH_SPANS, BATCH_BYTES = 500, 2 * MIB
"""What is delivered at once, at most, but for a single frame that is larger."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring frames of one segment and one kind, to be delivered together."""

    segment: Segment
    frames: Sequence[Frame]
    payloads: Sequence[bytes]
    orphan: Orphan | None

    @property
    def spans(self) -> int:
        return sum(frame.spans for frame in self.frames)


def first_frames(frames: Iterable[Frame]) -> list[Frame]:
    """Take as many frames as are delivered at once, at least one if there is one; all of the first one's kind."""
    taken: list[Frame] = []
    spans = size = 0
    for frame in frames:
        spans += frame.spans
        size += frame.end - frame.begin
        if taken and (spans > BATCH_SPANS or size > BATCH_BYTES or frame.event != taken[0].event):
            break
        taken.append(frame)
    return taken


_SEGMENT_BYTES = {True: 4 * MIB, False: MIB}  # on disk, in memory
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}
"""What keeps a segment from being read for a while, and says nothing of the segment."""


@dataclass(slots=True)
class Counts:
    """Spans of this process, and what was found of others."""

    delivered: int = 0
    dropped: int = 0
    adopted: int = 0
    """Delivered on behalf of processes that are gone."""
    adopted_dropped: int = 0
    bad_frames: int = 0
    """Damaged places in their segments."""

    def add(self, delivered: int, dropped: int, *, own: bool) -> None:
        """So many more."""
        if own:
            self.delivered += delivered
            self.dropped += dropped
        else:
            self.adopted += delivered
            self.adopted_dropped += dropped


class Spool:
    """Safe for the two threads that write and deliver. `changed` is notified when something was added or settled."""

    def __init__(self, root: Path | None, *, max_bytes: int, memory_max_bytes: int, fsync: Fsync) -> None:
        """Without a root all is kept in memory."""
        self._root, self._fsync = root, fsync
        self._most = {True: max_bytes, False: memory_max_bytes}
        self._segment_bytes = {on_disk: min(size, self._most[on_disk] // 4) for on_disk, size in _SEGMENT_BYTES.items()}
        self.changed = threading.Condition(threading.RLock())
        self.counts = Counts()
        self._dir: SpoolDir | None = None
        self._number = 0
        self._disk_failed = root is None
        self._dirty = False
        self._own: deque[Segment] = deque()
        self.orphans: deque[Orphan] = deque()

    # --- The writer's side ----------------------------------------------------------------------------------------

    def append(self, payloads: Sequence[tuple[bytes, int]]) -> None:
        """Keep ResourceSpans, each with its number of spans; on disk unless the disk fails. Raises nothing."""
        with self.changed:
            waited_for = not self.pending
            try:
                self._place(payloads)
            except Exception as error:
                self.count_dropped(lost := sum(spans for _, spans in payloads))
                warn_dropped("spooling", lost, "they could not be kept")
                report_internal_error("spooling spans", error)
                return
            self._dirty = True
            if self._fsync == "always":
                self.sync()
            self._make_room()
            if waited_for or self.full:
                self.changed.notify_all()

    def sync(self) -> None:
        """Make what was appended survive the machine."""
        with self.changed:
            if not self._dirty or self._fsync == "never":
                return
            self._dirty = False
            if self._own and self._own[-1].on_disk and self._own[-1].frames:
                try:
                    self._own[-1].storage.sync()
                except OSError as error:
                    self._to_memory(error)

    def retry_disk(self) -> None:
        """Try the disk again, if it had failed, with what comes next."""
        with self.changed:
            if self._disk_failed and self._root is not None:
                self._disk_failed = False
                if self._dir is not None and not self._dir.path.is_dir():
                    self._dir.leave()
                    self._dir = None

    @property
    def dirty(self) -> bool:
        """Whether there is something to sync."""
        return self._dirty and self._fsync != "never"

    # --- The exporter's side ----------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Spans of this process that are not settled."""
        return sum(segment.spans for segment in self._own)

    @property
    def full(self) -> bool:
        """Whether there is enough for a batch."""
        size = sum(segment.pending_bytes for segment in self._own)
        return size >= BATCH_BYTES or self.pending >= BATCH_SPANS

    @property
    def on_disk(self) -> bool:
        """Whether all that is pending survives the process."""
        return all(segment.on_disk for segment in self._own if segment.frames)

    def adopt(self) -> None:
        """Look for what processes that are gone have left."""
        if self._root is None:
            return
        for orphan in find_orphans(self._root):
            log.debug("adopted %s: %d segments", orphan.folder.path, len(orphan.segments))
            with self.changed:
                self.orphans.append(orphan)
                self._make_room()

    def take(self, *, own: bool) -> Batch | None:
        """The oldest frames, of this process or of others, at least one; None when there are none.

        They stay until `settle` or `release`. Raises OSError when they can't be read now and later may be.
        """
        with self.changed:
            for segment, orphan in self._segments(own=own):
                try:
                    if orphan is not None and not segment.frames:
                        self.counts.bad_frames += orphan.recover(segment)
                    if frames := first_frames(segment.frames):
                        segment.in_flight = True
                        return Batch(segment, frames, segment.read(frames), orphan)
                except OSError as error:
                    if error.errno in _PASSING:
                        raise
                    warn_dropped("unreadable", max(segment.spans, 1), f"a segment of the spool can't be read: {error}")
                self._drop(segment, orphan)
            return None

    def settle(self, batch: Batch, *, dropped: int) -> None:
        """The batch's spans are delivered, but for some that had to be dropped."""
        with self.changed:
            segment = batch.segment
            segment.in_flight = False
            segment.settle(len(batch.frames))
            self.counts.add(batch.spans - dropped, dropped, own=batch.orphan is None)
            if not segment.frames:
                self._remove(segment, batch.orphan)
            self.changed.notify_all()

    def release(self, batch: Batch) -> None:
        """The batch is not settled: it stays where it is."""
        with self.changed:
            batch.segment.in_flight = False

    def hand_over(self) -> None:
        """Leave what is on disk to other processes, now: this one can't deliver it. It stays pending here."""
        with self.changed:
            self.sync()
            for segment in [segment for segment in self._own if segment.on_disk]:
                self._own.remove(segment)
                segment.put_down()
            for orphan in self.orphans:
                orphan.close()
                orphan.folder.leave()
            self.orphans.clear()
            if self._dir is not None:
                self._dir.remove()
                self._dir = None

    def count_dropped(self, spans: int) -> None:
        """Spans that could not even be written."""
        with self.changed:
            self.counts.dropped += spans
            self.changed.notify_all()

    # --- The end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave what is on disk to whoever comes next; what is only in memory is lost, counted and told."""
        with self.changed:
            self.sync()
            lost = sum(segment.spans for segment in self._own if not segment.on_disk)
            if lost:
                self.counts.dropped += lost
                warn_dropped("closing", lost, "they were only in memory, and could not be delivered before the end")
            self.abandon()
            for folder in (self._dir, *(orphan.folder for orphan in self.orphans)):
                if folder is not None:
                    folder.remove()
            self._own.clear()
            self.orphans.clear()
            self._dir, self._root, self._disk_failed = None, None, True

    def abandon(self) -> None:
        """Close the files, and delete none but those that are done with."""
        for segment in self._own:
            segment.put_down()
        for orphan in self.orphans:
            orphan.close()

    def forget(self) -> None:
        """In the child of a fork: let go of the parent's files and locks without touching what they are of."""
        for segment in self._own:
            segment.close()
        for orphan in self.orphans:
            orphan.close()
            orphan.folder.leave()
        if self._dir is not None:
            self._dir.leave()

    # --- Segments -----------------------------------------------------------------------------------------------------

    def _place(self, payloads: Sequence[tuple[bytes, int]]) -> None:
        try:
            self._active().append(payloads)
        except OSError as error:
            self._to_memory(error)
            self._active().append(payloads)

    def _active(self) -> Segment:
        """The segment to append to. Raises OSError."""
        if self._own:
            last = self._own[-1]
            if last.size < self._segment_bytes[last.on_disk] and last.on_disk != self._disk_failed:
                return last
            self._finish(last)
        if self._disk_failed:
            segment = Segment(MemoryStorage(), on_disk=False)
        else:
            if self._dir is None and self._root is not None:
                self._dir = create_dir(self._root)
            assert self._dir is not None
            self._number += 1
            segment = Segment(FileStorage(self._dir.segment(self._number)), on_disk=True)
        self._own.append(segment)
        return segment

    def _finish(self, segment: Segment) -> None:
        """Nothing is appended to it any more."""
        with contextlib.suppress(OSError):
            if not segment.frames:
                self._own.remove(segment)
                segment.storage.delete()
            elif segment.on_disk:
                if self._fsync != "never":
                    segment.storage.sync()
                    if self._dir is not None:
                        self._dir.sync()
                segment.storage.close()  # not when it was deleted: what is open can still be read

    def _to_memory(self, error: OSError) -> None:
        if not self._disk_failed:
            warn_once("the spool", f"the spool can't be written ({error}); spans are kept in memory only, for now")
        self._disk_failed = True

    def _make_room(self) -> None:
        """Drop the oldest segments while there is more than may be kept."""
        for on_disk, most in self._most.items():
            candidates = [pair for pair in self._segments() if pair[0].on_disk == on_disk]
            total = sum(segment.size for segment, _ in candidates)
            for segment, orphan in candidates[:-1]:
                if total <= most:
                    break
                if segment.in_flight:
                    continue
                total -= segment.size
                with contextlib.suppress(OSError):
                    if orphan is not None and not segment.frames:
                        self.counts.bad_frames += orphan.recover(segment)
                setting = "spool_max_bytes" if on_disk else "memory_max_bytes"
                warn_dropped("spool", segment.spans, f"the oldest had to go, the spool holds {setting}={most}")
                self._drop(segment, orphan)

    def _segments(self, *, own: bool | None = None) -> Iterator[tuple[Segment, Orphan | None]]:
        """Oldest first, of a kind or all."""
        if own is not True:
            yield from [(segment, orphan) for orphan in self.orphans for segment in orphan.segments]
        if own is not False:
            yield from [(segment, None) for segment in self._own if segment.frames]

    def _drop(self, segment: Segment, orphan: Orphan | None) -> None:
        self.counts.add(0, segment.spans, own=orphan is None)
        segment.settle(len(segment.frames))
        self._remove(segment, orphan)
        self.changed.notify_all()

    def _remove(self, segment: Segment, orphan: Orphan | None) -> None:
        try:
            if orphan is not None:
                orphan.segments.remove(segment)
                segment.storage.delete()
                if not orphan.segments:
                    self.orphans.remove(orphan)
                    orphan.folder.remove()
            elif self._own and segment is self._own[-1] and segment.on_disk != self._disk_failed:
                segment.reset()
            else:
                self._own.remove(segment)
                segment.storage.delete()
        except OSError as error:
            log.debug("removing a segment: %s", error)
