"""Refusals: a call that is not answered ends here, with a status, a reason and, where it may pass, when to retry."""

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

log = structlog.get_logger()
Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")


class RefusedError(Exception):
    """A call is not answered: the status and the reason, and after how many seconds it may be tried again."""

    def __init__(self, code: grpc.StatusCode, reason: str, *, retry_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.retry_seconds = code, reason, retry_seconds


def invalid(field: str, reason: str) -> RefusedError:
    """The request can't be taken, now or later; `field` names where it is wrong."""
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {reason}")


def unavailable(reason: str, *, retry_seconds: float = 1.0) -> RefusedError:
    """Nothing is known to be stored; the same request may be sent again.

    OTLP's way to say so is UNAVAILABLE with RetryInfo: its clients drop the data on a bare RESOURCE_EXHAUSTED.
    """
    seconds = retry_seconds * random.uniform(1, 2)  # noqa: S311 - jitter
    return RefusedError(grpc.StatusCode.UNAVAILABLE, reason, retry_seconds=seconds)


async def answering(context: Context, call: Callable[[], Awaitable[Answer]]) -> Answer:
    """The call's answer, or its refusal as a status. What nobody foresaw is logged, and told as INTERNAL only."""
    try:
        return await call()
    except RefusedError as refused:
        await context.abort_with_status(rpc_status.to_status(to_status(refused)))
    except grpc.aio.AbortError:
        raise
    except Exception:
        log.exception("a call failed")
        await context.abort(grpc.StatusCode.INTERNAL, "internal error; the gateway's log tells more")
    raise AssertionError("abort() raises")


def to_status(refused: RefusedError) -> Status:
    """google.rpc.Status, with RetryInfo where a retry makes sense."""
    details = []
    if refused.retry_seconds is not None:
        delay = Duration()
        delay.FromMilliseconds(int(refused.retry_seconds * 1000))
        packed = AnyMessage()
        packed.Pack(RetryInfo(retry_delay=delay))
        details.append(packed)
    return Status(code=refused.code.value[0], message=refused.reason, details=details)
