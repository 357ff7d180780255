"""What is current within a block: an observation, a client."""

from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context, attach, create_key, get_current, set_value

if TYPE_CHECKING:
    from lodestream._client import Lodestream
    from lodestream._recording.span import Observation

Entered = tuple[Token[Context], Context]
"""What undoes making a context current, and that context."""
CURRENT_CLIENT = create_key("lodestream-client")
"""The key in a context of the client that is meant, and of the span that was current when it was named."""


def enter(context: Context) -> Entered:
    """Make a context the current one; give what is returned to `leave`."""
    return attach(context), context


def leave(entered: Entered) -> None:
    """Make the context current again that was so before.

    A block may be left by another task or thread than the one that entered it, as when a generator is closed; there the
    context was never entered, unless it was copied. OpenTelemetry's `detach` logs an error with a traceback for that.
    """
    token, context = entered
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):  # another task, or left already
        if get_current() is context:
            attach(Context() if token.old_value is Token.MISSING else token.old_value)


class CurrentObservation:
    """A context manager: the observation begins and ends with the block, and is current in it."""

    def __init__(
        self,
        begin: Callable[[], "Observation"],
        *,
        end_on_exit: bool,
    ) -> None:
        self._begin, self._end_on_exit = begin, end_on_exit
        self._entered: list[tuple[Observation, Entered]] = []  # the innermost last, if it is entered more than once

    def __enter__(self) -> "Observation":
        span = self._begin()
        self._entered.append((span, enter(trace.set_span_in_context(span))))
        return span

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if not self._entered:
            return
        span, entered = self._entered.pop()
        leave(entered)
        if error is not None:
            span.fail(error)
        if self._end_on_exit:
            span.end()


class CurrentClient:
    """A context manager: within the block, calls are for one client."""

    def __init__(self, client: "Lodestream") -> None:
        self._client, self._entered = client, list[Entered]()

    def __enter__(self) -> "Lodestream":
        context = get_current()
        self._entered.append(enter(set_value(CURRENT_CLIENT, (self._client, trace.get_current_span(context)), context)))
        return self._client

    def __exit__(self, *_: object) -> None:
        if self._entered:
            leave(self._entered.pop())
