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
    ModelReply,
    ModelRequest,
    PermanentError,
    TransientError,
)
from shared.spans.dialects.usage import from_mapping

_BODY_BYTES_PER_ANSWER_BYTE = 4
"""How much longer than its answer a reply's body may be: JSON escapes one byte with up to six."""
_MAX_OTHER_BYTES = 64 * 1024
"""How many bytes of a reply's body are read beside the answer, and of the body of an error."""
_TRANSIENT = frozenset({408, 409, 425, 429})  # and all of 500 and above
_MAX_REASON, _MAX_MODEL = 500, 255
_MAX_RETRY_AFTER_SECONDS = 3600.0


class OpenAIProvider:
    """Calls an endpoint by OpenAI's client, whose own retries are off: the queue decides who tries again, and when.

    Nothing is read beyond a bound, errors included, and redirects are refused: the operator names the address.
    """

    def __init__(self, *, base_url: str, api_key: SecretStr | None, seconds: float) -> None:
        """`seconds` bounds each wait for a byte; the caller bounds the whole call."""
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

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Make one attempt at a request.

        Raises CallError.
        """
        try:
            async with self._client.chat.completions.with_streaming_response.create(
                model=request.model,
                messages=list(request.messages),  # type: ignore[arg-type]
                extra_body=dict(request.settings),
                extra_headers={"Idempotency-Key": request.key} if request.key else None,
            ) as response:
                body = await _read_body(
                    response.iter_bytes(), _BODY_BYTES_PER_ANSWER_BYTE * request.max_answer_bytes + _MAX_OTHER_BYTES
                )
        except APIConnectionError as error:
            raise TransientError(f"no answer: {type(error.__cause__ or error).__name__}") from None
        except OpenAIError as error:
            raise PermanentError(f"{type(error).__name__}: {error}"[:_MAX_REASON]) from None
        except CallError:
            raise
        except Exception as error:  # the connection broke while the reply came
            raise TransientError(f"no whole answer: {type(error).__name__}") from None
        return parse_reply(body, request.model, request.max_answer_bytes)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _check_status(self, response: Any) -> None:
        """Raise CallError for everything but an answer, before the client reads the whole body."""
        status = int(response.status_code)
        if status < HTTPStatus.MULTIPLE_CHOICES:
            return
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece[: _MAX_OTHER_BYTES - len(body)]
            if len(body) == _MAX_OTHER_BYTES:
                break
        reason = f"{status}: {_message_of(bytes(body)) or 'the endpoint says no more'}"
        if self._secret:  # some endpoints repeat what they refuse
            reason = reason.replace(self._secret, "…")
        if not is_transient(status):
            raise PermanentError(reason[:_MAX_REASON])
        raise TransientError(reason[:_MAX_REASON], retry_after=retry_after(response.headers, now=time()))


def _message_of(body: bytes) -> str:
    """Return the message of an error in OpenAI's format, or one like it; empty when there is none."""
    try:
        error: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if isinstance(error, dict):
        error = error.get("error", error)
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def parse_reply(body: bytes, model: str, max_answer_bytes: int = MAX_ANSWER_BYTES) -> ModelReply:
    """Read a chat completion.

    Raises TransientError when the body is not one, as a proxy's error page is not, and PermanentError when it has no
    text, or too much.
    """
    try:
        completion: Any = json.loads(body)
        choice = completion["choices"][0]
        message = choice["message"]
        text = message.get("content")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise TransientError("the reply is not a chat completion") from None
    if not isinstance(text, str):
        why = message.get("refusal") or f"it has no text; finish_reason is {choice.get('finish_reason')!r}"
        raise PermanentError(f"the model gave no answer: {why}"[:_MAX_REASON])
    encoded = text.encode("utf-8", "replace")  # JSON may hold halves of characters
    if len(encoded) > max_answer_bytes:
        raise PermanentError(f"the answer has {len(encoded):,} bytes; at most {max_answer_bytes:,} are taken")
    usage = completion.get("usage")
    reported_model = completion.get("model")
    return ModelReply(
        text=encoded.decode(),
        model=reported_model[:_MAX_MODEL] if isinstance(reported_model, str) and reported_model else model,
        usage=(from_mapping(usage) or {}) if isinstance(usage, dict) else {},
    )


async def _read_body(pieces: AsyncIterator[bytes], max_bytes: int) -> bytes:
    """Raises PermanentError when there are more than `max_bytes`; no more than those are held."""
    body = bytearray()
    async for piece in pieces:
        if len(body) + len(piece) > max_bytes:
            raise PermanentError(f"the reply has more than {max_bytes:,} bytes")
        body += piece
    return bytes(body)


def is_transient(status: int) -> bool:
    """Whether a later attempt at a request may succeed that got this HTTP status."""
    return status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds that the Retry-After header asks for, as a number or as a date; None without a usable one."""
    header = headers.get("retry-after", "").strip()
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_SECONDS) if seconds == seconds else None  # noqa: PLR0124 - NaN
