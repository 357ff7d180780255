"""Any endpoint that speaks OpenAI's chat completions, by OpenAI's own client."""

import json
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time
from typing import Any

from openai import APIConnectionError, AsyncOpenAI, DefaultAsyncHttpx2Client, OpenAIError
from pydantic import SecretStr

from services.write.evaluator.providers.provider import (
    MAX_ANSWER_BYTES,
    CallError,
    LastingError,
    PassingError,
    Question,
    Reply,
)
from shared.read_model.dialects.usage import from_mapping

_BYTES_PER_BYTE = 4
"""Of a reply's body for one of its answer: JSON writes a character that it escapes with up to six for one."""
_MAX_AROUND = 64 * 1024
"""Bytes of a reply's body beside the answer, and of a refusal's whole body that are read."""
_PASSING = frozenset({408, 409, 425, 429})  # and all of 500 and above
_MAX_REASON, _MAX_MODEL = 500, 255
_LONGEST_REST = 3600.0


class OpenAIProvider:
    """Its own retries are switched off: who may ask again, and when, is decided where all workers agree on it.

    Nothing is read beyond a bound, refusals included, and redirects are refused: the operator names the address.
    """

    def __init__(self, *, base_url: str, api_key: SecretStr | None, seconds: float) -> None:
        """`seconds` bounds each wait for a byte; the whole call is bounded by whoever makes it."""
        self._secret = api_key.get_secret_value() if api_key else ""
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=self._secret or "none",
            max_retries=0,
            timeout=seconds,
            http_client=DefaultAsyncHttpx2Client(
                event_hooks={"response": [self._check_status]}, follow_redirects=False, timeout=seconds
            ),
        )

    async def ask(self, question: Question) -> Reply:
        """Ask once.

        Raises CallError.
        """
        try:
            async with self._client.chat.completions.with_streaming_response.create(
                model=question.model,
                messages=list(question.messages),  # type: ignore[arg-type]
                extra_body=dict(question.settings),
                extra_headers={"Idempotency-Key": question.key} if question.key else None,
            ) as response:
                body = await _whole(response.iter_bytes(), _BYTES_PER_BYTE * question.max_answer_bytes + _MAX_AROUND)
        except APIConnectionError as error:
            raise PassingError(f"no answer: {type(error.__cause__ or error).__name__}") from None
        except OpenAIError as error:
            raise LastingError(f"{type(error).__name__}: {error}"[:_MAX_REASON]) from None
        except CallError:
            raise
        except Exception as error:  # the connection broke while the reply came
            raise PassingError(f"no whole answer: {type(error).__name__}") from None
        return reply_of(body, question.model, question.max_answer_bytes)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _check_status(self, response: Any) -> None:
        """Raises CallError for everything but an answer, before the client reads the whole body of it."""
        status = int(response.status_code)
        if status < HTTPStatus.MULTIPLE_CHOICES:
            return
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece[: _MAX_AROUND - len(body)]
            if len(body) == _MAX_AROUND:
                break
        reason = f"{status}: {_message_of(bytes(body)) or 'the endpoint says no more'}"
        if self._secret:  # some endpoints repeat what they refuse
            reason = reason.replace(self._secret, "…")
        if not is_passing(status):
            raise LastingError(reason[:_MAX_REASON])
        raise PassingError(reason[:_MAX_REASON], retry_after=retry_after(response.headers, now=time()))


def _message_of(body: bytes) -> str:
    """What a refusal says of itself in OpenAI's form, or a form like it; empty when it says nothing."""
    try:
        refusal: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if isinstance(refusal, dict):
        refusal = refusal.get("error", refusal)
    message = refusal.get("message") if isinstance(refusal, dict) else refusal
    return message if isinstance(message, str) else ""


def reply_of(body: bytes, model: str, max_answer_bytes: int = MAX_ANSWER_BYTES) -> Reply:
    """What a chat completion says.

    Raises PassingError when it is none, as a proxy's error page is, and LastingError when it has no text, or too much.
    """
    try:
        told: Any = json.loads(body)
        choice = told["choices"][0]
        message = choice["message"]
        text = message.get("content")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise PassingError("the reply is no chat completion") from None
    if not isinstance(text, str):
        why = message.get("refusal") or f"it has no text; finish_reason is {choice.get('finish_reason')!r}"
        raise LastingError(f"the model gave no answer: {why}"[:_MAX_REASON])
    encoded = text.encode("utf-8", "replace")  # JSON may hold halves of characters
    if len(encoded) > max_answer_bytes:
        raise LastingError(f"the answer has {len(encoded):,} bytes; at most {max_answer_bytes:,} are taken")
    usage = told.get("usage")
    named = told.get("model")
    return Reply(
        text=encoded.decode(),
        model=named[:_MAX_MODEL] if isinstance(named, str) and named else model,
        usage=(from_mapping(usage) or {}) if isinstance(usage, dict) else {},
    )


async def _whole(pieces: AsyncIterator[bytes], most: int) -> bytes:
    """Raises LastingError when there are more bytes than `most`; no more than those are held."""
    body = bytearray()
    async for piece in pieces:
        if len(body) + len(piece) > most:
            raise LastingError(f"the reply has more than {most:,} bytes")
        body += piece
    return bytes(body)


def is_passing(status: int) -> bool:
    """Whether the same request may be answered later, by the status it got now."""
    return status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds from now, as the header says in seconds or as a date; None where it says nothing that can be used."""
    told = headers.get("retry-after", "").strip()
    if not told:
        return None
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(told).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _LONGEST_REST) if seconds == seconds else None  # noqa: PLR0124 - NaN
