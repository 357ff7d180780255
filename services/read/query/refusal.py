"""Refusals of the query service: a database that is slow or away, and methods that write."""

from collections.abc import Awaitable, Callable

import asyncpg
import grpc
import structlog

from shared.runtime.refusal import Answer, Context, RefusedError, UnavailableError
from shared.runtime.refusal import answering as answering_calls

log = structlog.get_logger()
DATABASE_AWAY = (
    OSError,  # TimeoutError is one
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that breaks in mid-query
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)
"""The errors that are raised when the database does not answer."""


async def answering(method: str, context: Context, call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return a call's answer, or end it with its refusal; a database that is away is UNAVAILABLE with RetryInfo."""

    async def guarded() -> Answer:
        try:
            return await call()
        except asyncpg.QueryCanceledError:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise RefusedError(code, "the query took too long; narrow the filter") from None
        except DATABASE_AWAY as error:
            log.warning("the database does not answer", error=f"{type(error).__name__}: {error}")
            raise UnavailableError("the database does not answer") from None

    return await answering_calls(method, context, guarded)


def leave_to_gateway(servicer: object, base: type) -> None:
    """Let the methods of `base` that a servicer does not answer, those that write, be refused as UNIMPLEMENTED."""
    for method in vars(base):
        if not method.startswith("_") and getattr(type(servicer), method) is getattr(base, method):
            setattr(servicer, method, _refuse_write)


async def _refuse_write(_request: object, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "nothing is written here: ask the gateway")
