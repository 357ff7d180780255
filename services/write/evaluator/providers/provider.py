"""The interface of providers: a request to a model, its reply, and how a call may fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Message = Mapping[str, Any]
"""A message of a chat, with "role" and "content"."""
MAX_ANSWER_BYTES = 1024 * 1024
"""The longest text of a reply, as UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A request for one completion of a chat."""

    model: str
    messages: Sequence[Message]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the model: temperature and the like."""
    key: str = ""
    """Equal for every attempt at one request; a provider that knows idempotency keys answers it once."""
    attempt: int = 1
    max_answer_bytes: int = MAX_ANSWER_BYTES
    """A longer answer is a PermanentError; no provider holds more than a small multiple of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """The reply of a model, as text."""

    text: str
    model: str
    usage: Mapping[str, int] = field(default_factory=dict)
    """Tokens by kind, each counted once; empty when the provider reports none."""


class CallError(Exception):
    """The model did not reply; the message says why, without secrets and without the content of the request."""


class TransientError(CallError):
    """A later attempt may succeed: no connection, a time-out, too many requests, an error of the server."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        """The seconds for which the provider asks not to be called, if it does."""


class NoAnswerError(TransientError):
    """The model was called and did not reply in time: the call may have cost something all the same."""


class PermanentError(CallError):
    """A later attempt would fail too: the request is wrong, or is not allowed."""


class Provider(Protocol):
    """A model endpoint. Its calls are cancelled freely, and bounded in time by whoever makes them."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Make one attempt at a request.

        Raises CallError: TransientError or PermanentError.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
