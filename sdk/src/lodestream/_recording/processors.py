"""Span processors of opentelemetry-sdk's kind that a program adds to our tracer providers."""

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from opentelemetry.context import Context

from lodestream._diagnostics import report_internal_error
from lodestream._lifecycle import close_with_process

PARENT_LISTENERS: list[Callable[[int], None]] = []
"""Told the id of each span of another provider in this process that an observation becomes a child of."""


class SpanProcessor(Protocol):
    """`opentelemetry.sdk.trace.SpanProcessor`, as far as it is called here."""

    def on_start(self, span: Any, parent_context: Context | None = None) -> None: ...

    def on_end(self, span: Any) -> None: ...

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 30_000) -> bool: ...


class Processors:
    """Called in the order in which they were added. What one raises is logged, and the next is called."""

    def __init__(self) -> None:
        self.added: tuple[SpanProcessor, ...] = ()
        self._adding = threading.Lock()

    def add(self, processor: SpanProcessor) -> None:
        """Call it for every span that starts from now on. It is shut down with the process."""
        with self._adding:
            self.added = (*self.added, processor)
        _in_use.add(self)
        close_with_process(self)

    def on_start(self, span: Any, parent_context: Context) -> None:
        for processor in self.added:
            try:
                processor.on_start(span, parent_context=parent_context)
            except Exception as error:
                report_internal_error(f"{type(processor).__name__}.on_start", error)

    def on_end(self, span: Any) -> None:
        for processor in self.added:
            try:
                processor.on_end(span)
            except Exception as error:
                report_internal_error(f"{type(processor).__name__}.on_end", error)

    def force_flush(self, timeout_millis: int) -> bool:
        """Whether all of them delivered within the time, which they share in their order."""
        end, flushed = time.monotonic() + timeout_millis / 1_000, True
        for processor in self.added:
            left = int((end - time.monotonic()) * 1_000)
            try:
                flushed = left > 0 and processor.force_flush(left) is not False and flushed
            except Exception as error:
                flushed = False
                report_internal_error(f"{type(processor).__name__}.force_flush", error)
        return flushed

    def shutdown(self) -> None:
        """Once: they are called no more."""
        with self._adding:
            processors, self.added = self.added, ()
        for processor in processors:
            try:
                processor.shutdown()
            except Exception as error:
                report_internal_error(f"{type(processor).__name__}.shutdown", error)

    def close_at_exit(self, _timeout: float) -> None:
        """At the end of the process. How long a processor takes then is its own affair, as under opentelemetry-sdk."""
        self.shutdown()


EVERYWHERE = Processors()
"""The processors of the process's tracer provider: they see the spans of every client."""
_in_use: "weakref.WeakSet[Processors]" = weakref.WeakSet()


def _renew() -> None:
    """In the child of a fork, whose end is another one than the parent's."""
    for processors in list(_in_use):
        processors._adding = threading.Lock()
        close_with_process(processors)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
