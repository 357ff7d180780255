"""Answers and refusals: a call that is not answered has a status, a reason and, where it may pass, when to retry."""

import asyncio
import copyreg
import random
from collections.abc import Awaitable, Callable
from traceback import clear_frames
from typing import Any, NoReturn, TypeVar

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from prometheus_client import Counter

log = structlog.get_logger()
Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")
CALLS = Counter("lodestream_calls", "Calls by method and the status they were answered with", ["method", "code"])
_SOONEST = 0.1  # seconds; a client that is told to come back at once does so, for ever
_INTERNAL = "internal error; the service's log tells more"


class RefusedError(Exception):
    """A call is not answered: the status and the reason, and after how many seconds it may be tried again."""

    def __init__(self, code: grpc.StatusCode, reason: str, *, retry_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.retry_seconds = code, reason, retry_seconds

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as it is: subclasses make their reasons of other arguments."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class InvalidError(RefusedError):
    """The request can't be taken, now or later; `field` names where it is wrong."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {why}")
        self.field, self.why = field, why


class NotFoundError(RefusedError):
    """The project has no such thing."""

    def __init__(self, what: str) -> None:
        super().__init__(grpc.StatusCode.NOT_FOUND, f"this project has no {what}")


class UnavailableError(RefusedError):
    """Nothing is known to be stored; the same request may be sent again.

    OTLP's way to say so is UNAVAILABLE with RetryInfo: its clients drop the data on a bare RESOURCE_EXHAUSTED.
    """

    def __init__(self, reason: str, *, retry_seconds: float = 1.0) -> None:
        seconds = min(max(retry_seconds, _SOONEST), 15.0) * random.uniform(1, 2)  # noqa: S311 - jitter
        super().__init__(grpc.StatusCode.UNAVAILABLE, reason, retry_seconds=seconds)


async def answering(method: str, context: Context, call: Callable[[], Awaitable[Answer]]) -> Answer:
    """The call's answer, or its refusal as a status. What nobody foresaw is logged, and told as INTERNAL only."""
    code = grpc.StatusCode.CANCELLED
    try:
        answer = await call()
        code = grpc.StatusCode.OK
    except RefusedError as refused:
        code = refused.code
        clear_frames(refused.__traceback__)  # what they hold would last until the next collection
        await context.abort(code, refused.reason, details_of(refused))
    except asyncio.CancelledError:
        raise
    except Exception as error:
        if _lacks_memory(error):
            short = UnavailableError("the service is short of memory")
            code = short.code
            await context.abort(code, short.reason, details_of(short))
        log.exception("a call failed", method=method)
        code = grpc.StatusCode.INTERNAL
        await context.abort(code, _INTERNAL)
    finally:
        CALLS.labels(method, code.name).inc()
    return answer


def _lacks_memory(error: Exception) -> bool:
    """Whether the call may succeed elsewhere or later: a thread, too, is not started for want of memory."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "start new thread" in str(error))


async def refuse(method: str, context: Context, refused: RefusedError) -> NoReturn:
    """End a call that does not reach its method, or not any longer, with the refusal as its status."""
    CALLS.labels(method, refused.code.name).inc()
    await context.abort(refused.code, refused.reason, details_of(refused))


def details_of(refused: RefusedError) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata: google.rpc.Status with RetryInfo, and gRPC's own push-back, where a retry makes sense."""
    if refused.retry_seconds is None:
        return ()
    milliseconds = int(refused.retry_seconds * 1000)
    delay = Duration()
    delay.FromMilliseconds(milliseconds)
    packed = AnyMessage()
    packed.Pack(RetryInfo(retry_delay=delay))
    status = Status(code=refused.code.value[0], message=refused.reason, details=[packed])
    return ("grpc-status-details-bin", status.SerializeToString()), ("grpc-retry-pushback-ms", str(milliseconds))
