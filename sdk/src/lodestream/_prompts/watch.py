"""The watch: one stream on which the server tells of every change, so that a look-up need not ask."""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from lodestream_proto.v1.prompts_pb2 import PromptOutcome, WatchedPrompt, WatchPromptsRequest, WatchPromptsResponse

from lodestream._delivery.channel import FailureKind, RpcChannel, RpcError
from lodestream._diagnostics import log, report_internal_error
from lodestream._lifecycle import close_with_process, start_thread
from lodestream._prompts.messages import Selector, selector_of

_WATCH = "/lodestream_proto.v1.PromptService/WatchPrompts"
_MOST = 1_000
_GATHER_SECONDS = 0.05  # prompts that are asked for one after the other are watched together
_SILENT_SECONDS = 45.0  # three signs of life
_STREAM_SECONDS = 300.0  # after which a line that is dead without knowing is found out
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 30.0
_SETUP_WAIT = 60.0


class PromptWatch:
    """Runs in a thread of its own from the first prompt on."""

    def __init__(
        self,
        channel: RpcChannel,
        known: Callable[[], Mapping[Selector, int]],
        take: Callable[[Sequence[PromptOutcome]], None],
    ) -> None:
        """`known` gives what is to be watched, and the revision that the caller has of each."""
        self._channel, self._known, self._take = channel, known, take
        self._changed = threading.Event()
        self._following: frozenset[Selector] = frozenset()
        self._true_until = 0.0
        self._closed = False
        self._thread: threading.Thread | None = None

    def covers(self, selector: Selector, now: float) -> bool:
        """Whether what was told of this prompt is still so, as far as a stream that is alive can tell."""
        return now < self._true_until and selector in self._following

    def follow(self) -> None:
        """There is something new to watch."""
        self._changed.set()
        self.begin()
        if self._following and not self._known().keys() <= self._following:
            self._channel.cancel_calls()

    def begin(self) -> None:
        """Watch from now on; nothing where it does already."""
        if self._thread is not None or self._closed:
            return
        self._changed.set()
        self._thread = thread = threading.Thread(target=self._run, name="lodestream-prompts", daemon=True)
        try:
            start_thread(thread)
        except RuntimeError as error:  # too many, or the interpreter is about to end; prompts age by time then
            log.debug("no thread to watch prompts: %s", error)
            self._closed = True
        else:
            close_with_process(self)

    def close_at_exit(self, _timeout: float) -> None:
        """End the stream with the process."""
        self.close()

    def close(self) -> None:
        """End the stream and the thread."""
        self._closed, self._true_until = True, 0.0
        self._changed.set()
        self._channel.cancel()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _run(self) -> None:
        failures = 0
        while not self._closed:
            self._changed.wait()
            time.sleep(_GATHER_SECONDS)
            self._changed.clear()
            try:
                self._listen()
                failures = 0
                pause = 0.0
            except RpcError as error:
                failures += 1
                pause = _pause(error, failures)
                log.debug("the watch of prompts ended: %s", error)
            except Exception as error:
                failures += 1
                pause = _LONGEST_WAIT
                report_internal_error("watching prompts", error)
            finally:
                self._true_until, self._following = 0.0, frozenset()
            end = time.monotonic() + pause
            while not self._closed and (left := end - time.monotonic()) > 0:
                time.sleep(min(left, 0.5))
            self._changed.set()  # connect again

    def _listen(self) -> None:
        known = dict(list(self._known().items())[-_MOST:])
        if not known:
            return
        watched = [WatchedPrompt(prompt=selector_of(it), known_revision=revision) for it, revision in known.items()]
        request = WatchPromptsRequest(prompts=watched).SerializeToString()

        def take(message: bytes) -> None:
            self._take(WatchPromptsResponse.FromString(message).changes)
            self._following = frozenset(known)
            self._true_until = time.monotonic() + _SILENT_SECONDS

        self._channel.stream(_WATCH, request, take, timeout=_STREAM_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter


def _pause(error: RpcError, failures: int) -> float:
    if error.kind is FailureKind.MISCONFIGURED:
        return _SETUP_WAIT
    longest = min(_FIRST_WAIT * 2 ** min(failures - 1, 10), _LONGEST_WAIT)
    return max(error.retry_after or 0.0, random.uniform(longest / 2, longest))  # noqa: S311 - jitter
