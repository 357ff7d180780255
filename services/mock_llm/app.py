"""The routes. What is refused, limited or failed is told in OpenAI's shape, and every call is remembered."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.mock_llm.behaviour import behaviour_of
from services.mock_llm.calls import Call, Calls
from services.mock_llm.chat import complete
from services.mock_llm.embeddings import embed
from services.mock_llm.errors import ApiError, api_error, http_error, too_many, unexpected, wrong
from services.mock_llm.messages import model_of, question_of
from services.mock_llm.tools import rules_from
from shared.runtime.settings import MockLlmSettings
from shared.runtime.token_bucket import Bucket

MODELS = ("mock-large", "mock-small", "mock-embedding")


def create_app(settings: MockLlmSettings) -> Starlette:
    """The application; each has its own list of calls and its own limit."""
    handlers = _Handlers(settings)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", handlers.chat, methods=["POST"]),
            Route("/v1/embeddings", handlers.embeddings, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/health", _health),
            Route("/calls", handlers.calls, methods=["GET", "DELETE"]),
        ],
        exception_handlers={ApiError: api_error, HTTPException: http_error, Exception: unexpected},
    )


class _Handlers:
    """What the routes share."""

    def __init__(self, settings: MockLlmSettings) -> None:
        self._settings = settings
        self._calls = Calls()
        rate = settings.requests_per_second
        # A bucket lets pass what it has no debt for: one request less than the burst.
        self._rules = rules_from(settings.rules)
        self._bucket = Bucket(rate, settings.burst - 1, time.monotonic()) if rate else None

    async def chat(self, request: Request) -> Response:
        body, call = await self._begin(request)
        with _told(call):
            question = question_of(body)
            return await complete(question, behaviour_of(request, body, self._settings), call, self._rules)

    async def embeddings(self, request: Request) -> Response:
        body, call = await self._begin(request)
        with _told(call):
            response = JSONResponse(embed(body))
            call.status = 200
            return response

    async def calls(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._calls.forget()
            return Response(status_code=204)
        return JSONResponse(self._calls.told())

    async def _begin(self, request: Request) -> tuple[Mapping[str, Any], Call]:
        """The body, and the call as it is remembered. Raises ApiError for one that can't be told, or is too much."""
        body = _object(await _body(request, self._settings.max_body_bytes))
        retries = request.headers.get("x-stainless-retry-count", "0")
        call = self._calls.begin(
            request.url.path,
            model_of(body),
            key=request.headers.get("idempotency-key", ""),
            retries=int(retries) if retries.isdecimal() else 0,
            stream=body.get("stream") is True,
        )
        with _told(call):
            self._limit()
        return body, call

    def _limit(self) -> None:
        """Raise ApiError when there are too many requests a second."""
        if self._bucket is None:
            return
        now = time.monotonic()
        if seconds := self._bucket.wait(now):
            raise too_many(seconds)
        self._bucket.take(1, now)


@contextmanager
def _told(call: Call) -> Iterator[None]:
    """The status of a call that is refused is remembered."""
    try:
        yield
    except ApiError as error:
        call.status = error.status
        raise


async def _models(_: Request) -> Response:
    data = [{"id": model, "object": "model", "created": 0, "owned_by": "lodestream"} for model in MODELS]
    return JSONResponse({"object": "list", "data": data})


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _body(request: Request, most: int) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise ApiError(413, f"the body has more than {most} bytes", kind="invalid_request_error")
    return bytes(body)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise wrong(None, f"the body is no JSON: {error}") from None
    if not isinstance(told, dict):
        raise wrong(None, "the body is a JSON object")
    return told
