"""Errors in the shape that OpenAI's clients read."""

import math
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse


class ApiError(Exception):
    """What a request is refused with."""

    def __init__(
        self, status: int, message: str, *, kind: str, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.code, self.param = status, message, kind, code, param
        self.headers: dict[str, str] = {}

    def response(self) -> JSONResponse:
        """With the message, the type, the code and the name of the parameter that is wrong."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return JSONResponse({"error": error}, self.status, self.headers)


def wrong(param: str | None, message: str) -> ApiError:
    """400: the request makes no sense, and never will."""
    return ApiError(400, message if param is None else f"{param}: {message}", kind="invalid_request_error", param=param)


def too_many(seconds: float) -> ApiError:
    """429, and when to come again."""
    error = ApiError(429, "too many requests", kind="requests", code="rate_limit_exceeded")
    return _later(error, seconds)


def overloaded(model: str, seconds: float) -> ApiError:
    """503: another try may succeed."""
    error = ApiError(503, f"the model {model} is overloaded", kind="server_error", code="overloaded")
    return _later(error, seconds)


def _later(error: ApiError, seconds: float) -> ApiError:
    error.headers = {"Retry-After": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}
    return error


async def api_error(_: Request, error: Any) -> JSONResponse:
    """The handler of ApiError."""
    response: JSONResponse = error.response()
    return response


async def http_error(request: Request, error: Any) -> JSONResponse:
    """The handler of routes that are not there."""
    told = f"{request.method} {request.url.path}: {error.detail}"
    return ApiError(error.status_code, told, kind="invalid_request_error").response()


async def unexpected(_: Request, error: Exception) -> JSONResponse:
    """The handler of everything else."""
    return ApiError(500, f"{type(error).__name__}: {error}", kind="server_error").response()
