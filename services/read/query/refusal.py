"""Refusals: what a call ends with when it has no answer."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
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
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)


class RefusedError(Exception):
    """A call has no answer: the status and the reason."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def invalid(field: str, reason: str) -> RefusedError:
    """The request is wrong in `field`."""
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {reason}")


def not_found(what: str) -> RefusedError:
    """The project has no such thing."""
    return RefusedError(grpc.StatusCode.NOT_FOUND, f"this project has no {what}")


async def answering(context: Context, call: Callable[[], Awaitable[Answer]]) -> Answer:
    """The call's answer, or its refusal as a status; the database away is UNAVAILABLE with RetryInfo."""
    try:
        return await call()
    except RefusedError as refused:
        await context.abort(refused.code, refused.reason)
    except asyncpg.QueryCanceledError:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the query took too long; narrow the filter")
    except _AWAY as error:
        log.warning("the database does not answer", error=f"{type(error).__name__}: {error}")
        await context.abort_with_status(rpc_status.to_status(_retry("the database does not answer")))
    except grpc.aio.AbortError:
        raise
    except Exception:
        log.exception("a call failed")
        await context.abort(grpc.StatusCode.INTERNAL, "internal error; the query service's log tells more")
    raise AssertionError("abort() raises")


def _retry(reason: str) -> Status:
    packed = AnyMessage()
    packed.Pack(RetryInfo(retry_delay=Duration(seconds=2)))
    return Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message=reason, details=[packed])
