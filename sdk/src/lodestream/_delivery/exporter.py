"""The exporter: takes batches from the spool and delivers them, for as long as it takes."""

import random
import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value

from lodestream._delivery.channel import FailureKind
from lodestream._delivery.spool import Batch, Spool
from lodestream._delivery.transport import Delivered, Failed, Positions, Transport
from lodestream._diagnostics import log, log_dropped, report_internal_error, warn_dropped, warn_once
from lodestream._wire.payloads import halves

_TIMEOUT_SECONDS = 15.0  # the gateway waits 10 s for the log
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 30.0
_HURRIED_WAIT = 0.5
_SETUP_WAIT = 30.0
_LONGEST_ASKED = 300.0  # of what a server may ask for
_LOOK_FOR_ORPHANS_SECONDS = 30.0
_MOST_FAILURES = 5  # of the server at one request, before its spans are tried one by one


class Exporter:
    """Runs in a thread of its own. `hurry` names the last one who waits for an empty spool, 0 when nobody does."""

    def __init__(
        self, spool: Spool, transport: Transport, *, interval: float, positions: Positions, hurry: Callable[[], int]
    ) -> None:
        self._spool, self._transport, self._interval = spool, transport, interval
        self._positions, self._hurry = positions, hurry
        self._stopping = threading.Event()
        self._random = random.Random()  # noqa: S311 - jitter
        self._next_look = 0.0
        self._was_orphan = self._stranded = False
        self._asked_to_look = False
        self.looks = 0
        """How often it was looked for what others left."""
        self.attempts_failed = 0
        self.problem = ""
        """Why the last attempt failed; empty when it did not."""

    def run(self) -> None:
        """Until `stop`."""
        attach(set_value("suppress_instrumentation", True, set_value(_SUPPRESS_INSTRUMENTATION_KEY, True)))
        while not self._stopping.is_set():
            try:
                log_dropped()
                self._step()
            except Exception as error:
                report_internal_error("delivering spans", error)
                self._pause(_FIRST_WAIT)
        self._transport.close()

    def stop(self) -> None:
        """End soon; what is under way is given up and stays in the spool."""
        self._stopping.set()
        self._transport.cancel()
        with self._spool.changed:
            self._spool.changed.notify_all()

    def look(self) -> None:
        """Look for what others left, now."""
        self._asked_to_look = True
        with self._spool.changed:
            self._spool.changed.notify_all()

    def _step(self) -> None:
        if self._stranded:
            self._spool.hand_over()
            self._pause(_LOOK_FOR_ORPHANS_SECONDS)
        elif self._asked_to_look or time.monotonic() >= self._next_look:
            self._asked_to_look = False
            self._next_look = time.monotonic() + _LOOK_FOR_ORPHANS_SECONDS * self._random.uniform(0.8, 1.2)
            self._spool.adopt()
            self.looks += 1
        batch = self._spool.take(own=True) if self._is_due() else self._spool.take(own=False) or self._gathered()
        self._was_orphan = batch is not None and batch.orphan is not None
        if batch is not None:
            self._handle(batch)

    def _is_due(self) -> bool:
        """Whether our own spans come next. Those of others come when there is time, or every other time."""
        return self._spool.pending > 0 and bool(self._hurry() or self._spool.full or self._was_orphan)

    def _gathered(self) -> Batch | None:
        """What has come together within the interval since something was there."""
        spool = self._spool
        with spool.changed:
            spool.changed.wait_for(self._woken, max(self._next_look - time.monotonic(), 0.01))
            if not spool.pending:
                return None
            spool.changed.wait_for(lambda: self._stopping.is_set() or bool(self._hurry()) or spool.full, self._interval)
        return None if self._stopping.is_set() else spool.take(own=True)

    def _woken(self) -> bool:
        return self._stopping.is_set() or self._asked_to_look or self._spool.pending > 0

    def _handle(self, batch: Batch) -> None:
        try:
            dropped = self._deliver(batch.payloads, batch.spans)
        except BaseException:
            self._spool.release(batch)
            raise
        if dropped is None:
            self._spool.release(batch)
        else:
            self._spool.settle(batch, dropped=dropped)

    def _deliver(self, payloads: Sequence[bytes], spans: int) -> int | None:
        """Deliver until settled; gives how many spans had to be dropped, None when stopped before the end."""
        work, dropped, failures = [(list(payloads), spans)], 0, 0
        while work:
            these, count = work[-1]
            outcome = self._transport.send(these, timeout=_TIMEOUT_SECONDS)
            if self._stopping.is_set() and isinstance(outcome, Failed):
                return None
            if isinstance(outcome, Delivered):
                work.pop()
                dropped += self._taken(outcome, count)
                continue
            self._failed(outcome)
            self._stranded = outcome.kind is FailureKind.FORK_UNUSABLE
            if self._stranded:
                return None
            failures += outcome.kind is FailureKind.SERVER_ERROR
            if outcome.kind is FailureKind.PERMANENT or failures > _MOST_FAILURES:
                work.pop()
                if count > 1:
                    work += halves(these)
                else:
                    dropped += 1
                    warn_dropped("refused", 1, f"the server does not take them: {outcome.reason}")
            if outcome.kind is not FailureKind.PERMANENT:
                self._wait(outcome)
            if self._stopping.is_set():
                return None
        return dropped

    def _taken(self, outcome: Delivered, spans: int) -> int:
        self.attempts_failed, self.problem = 0, ""
        self._positions.add(outcome.position)
        rejected = min(max(outcome.rejected, 0), spans)
        log.debug("delivered %d spans, %d were rejected", spans - rejected, rejected)
        if rejected:
            warn_dropped("rejected", rejected, f"the server rejected them for good: {outcome.message}")
        return rejected

    def _failed(self, outcome: Failed) -> None:
        with self._spool.changed:
            self.attempts_failed += 1
            self.problem = outcome.reason
            self._spool.changed.notify_all()
        log.debug("not delivered: %s", outcome.reason)
        if outcome.kind in (FailureKind.MISCONFIGURED, FailureKind.FORK_UNUSABLE):
            warn_once("setup", f"spans are kept, they can't be delivered: {outcome.reason}")

    def _wait(self, outcome: Failed) -> None:
        if outcome.retry_after is not None:
            delay = min(max(outcome.retry_after, _FIRST_WAIT), _LONGEST_ASKED)
            self._pause(delay * self._random.uniform(1, 1.1), heed_hurry=False)  # not all clients at the same moment
        elif outcome.kind is FailureKind.MISCONFIGURED:
            self._pause(_SETUP_WAIT)
        else:
            longest = min(_FIRST_WAIT * 2 ** min(self.attempts_failed, 16), _LONGEST_WAIT)
            self._pause(self._random.uniform(longest / 2, longest))

    def _pause(self, seconds: float, *, heed_hurry: bool = True) -> None:
        """Wait. Somebody who is in a hurry, or gets into one, has it cut short unless the server asked for the time."""
        seen = self._hurry()
        if heed_hurry and seen:
            seconds = min(seconds, _HURRIED_WAIT)
        spool = self._spool
        with spool.changed:
            spool.changed.wait_for(
                lambda: self._stopping.is_set() or (heed_hurry and self._hurry() not in (0, seen)), seconds
            )
