"""What the worker asks of a model, and what may come of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Message = Mapping[str, Any]
"""With "role" and "content"."""
MAX_ANSWER_BYTES = 1024 * 1024
"""Of an answer's text as UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A call."""

    model: str
    messages: Sequence[Message]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the model: temperature and the like."""
    key: str = ""
    """The same for every try of the same question; a provider that knows idempotency keys answers it once."""
    attempt: int = 1
    max_answer_bytes: int = MAX_ANSWER_BYTES
    """A longer answer is a LastingError; no provider holds more than a small multiple of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model answered, as text."""

    text: str
    model: str
    usage: Mapping[str, int] = field(default_factory=dict)
    """Tokens by kind, each counted once; empty: not told."""


class CallError(Exception):
    """The model did not answer; the message says why, without secrets and without the question."""


class PassingError(CallError):
    """It may answer when it is asked again: no connection, a time-out, too many requests, a fault of the server's."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        """Seconds for which the provider asks to be left alone."""


class UnansweredError(PassingError):
    """The model was asked and has not answered in time: it may have worked, and cost, all the same."""


class LastingError(CallError):
    """It would say the same again: the request is wrong, or is not allowed."""


class Provider(Protocol):
    """A model endpoint. Its calls are cancelled freely, and bounded in time by whoever makes them."""

    async def ask(self, question: Question) -> Reply:
        """Ask once.

        Raises CallError: PassingError or LastingError.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...
