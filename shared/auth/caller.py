"""Who calls: the project of a call's API key, asked before any method is reached, and again while a stream is open."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from shared.auth.address_throttle import network_of
from shared.auth.authentication import Authenticator, KeysUnavailableError, UnauthenticatedError
from shared.runtime.fairness import OverloadedError, Pacer
from shared.runtime.refusal import Context, InvalidError, RefusedError, UnavailableError, refuse
from shared.runtime.unread import UnreadAnswers

_WITHOUT_KEY = ("/grpc.health.v1.Health/",)
"""Methods that anybody may call."""


async def project_of(keys: Authenticator, context: Context) -> str:
    """The project of the call's API key.

    Raises RefusedError.
    """
    given = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    if len(given) > 1:
        raise RefusedError(grpc.StatusCode.UNAUTHENTICATED, "there is more than one authorization metadata")
    authorization = given[0] if given else None
    try:
        return await keys.project_of(
            authorization if isinstance(authorization, str) else None,
            lambda: address_of(context, keys.settings.address_header),
        )
    except UnauthenticatedError as error:
        raise RefusedError(grpc.StatusCode.UNAUTHENTICATED, str(error)) from None
    except KeysUnavailableError as error:
        raise UnavailableError(str(error), retry_seconds=5) from None


def address_of(context: Context, header: str | None) -> str:
    """The caller's network. Of a header the last address counts: it is what the trusted proxy itself has added."""
    if header:
        values = [value for name, value in context.invocation_metadata() or () if name == header.lower()]
        last = str(values[-1]).rpartition(",")[2].strip() if values else ""
        if last:
            return network_of(last)
    return network_of(context.peer())


class KeyInterceptor(grpc.aio.ServerInterceptor):
    """Lets no call reach a method without a good API key, whoever registered it, and ends streams whose key is revoked.

    Methods read their project themselves, by `project_of`; that they are reached at all shows that there is one.
    """

    def __init__(self, keys: Authenticator, *, unread: UnreadAnswers | None = None, pacer: Pacer | None = None) -> None:
        """`unread` bounds the answers of methods that answer with bytes; `pacer` is asked before a call goes on."""
        self._keys, self._unread, self._pacer = keys, unread, pacer
        self._period = keys.settings.recheck_seconds / 4
        self._guarded: dict[str, Any] = {}

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The method's handler behind the check of the key; None for a method that is not registered."""
        method: str = handler_call_details.method
        if method.startswith(_WITHOUT_KEY):
            return await continuation(handler_call_details)
        guarded = self._guarded.get(method)
        if guarded is None and (handler := await continuation(handler_call_details)) is not None:
            guarded = self._guarded[method] = self._guard(handler, method.rpartition("/")[2])
        return guarded

    def _guard(self, handler: Any, name: str) -> Any:
        """The same method, of bytes: the request is not looked at before the key."""
        keys, unread, pacer, read = self._keys, self._unread, self._pacer, handler.request_deserializer

        async def admitted(request: Any, context: Context) -> tuple[str, Any]:
            try:
                project_id = await project_of(keys, context)
                if pacer:
                    await pacer.pace(project_id, within=context.time_remaining())
                return project_id, _message(read, request) if read and not handler.request_streaming else request
            except RefusedError as refused:
                await refuse(name, context, refused)

        async def answer(request: Any, context: Context) -> Any:
            project_id, message = await admitted(request, context)
            response = await method(message, context)
            if unread:
                try:
                    await unread.hold(len(response), project_id, context)
                except RefusedError as refused:
                    del response  # the frame outlives the call with its exception, until the next collection
                    await refuse(name, context, refused)
            return response

        async def answers(request: Any, context: Context) -> AsyncIterator[Any]:
            project_id, message = await admitted(request, context)
            responses = method(message, context)
            if inspect.isawaitable(responses):  # gRPC's other kind of handler: it writes to the context, if at all
                responses = _nothing_after(responses)
            async for response in self._while_valid(name, responses, context):
                if unread is None:
                    yield response
                    continue
                try:
                    async with unread.message(len(response), project_id):
                        yield response
                except OverloadedError as refused:
                    await refuse(name, context, refused)

        shape = f"{_count(handler.request_streaming)}_{_count(handler.response_streaming)}"
        method = getattr(handler, shape)
        make = getattr(grpc, f"{shape}_rpc_method_handler")
        return make(
            answers if handler.response_streaming else answer,
            read if handler.request_streaming else None,
            handler.response_serializer,
        )

    async def _while_valid(self, name: str, responses: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        """The responses, for as long as the key is good; also an idle stream ends when it is not."""
        call, revoked = asyncio.current_task(), list[RefusedError]()
        assert call is not None

        async def watch() -> None:
            while not revoked:
                await asyncio.sleep(self._period)
                try:
                    await project_of(self._keys, context)
                except RefusedError as refused:
                    revoked.append(refused)
            call.cancel()

        watching = asyncio.create_task(watch())
        try:
            async for response in responses:
                yield response
        except asyncio.CancelledError:
            if not revoked:
                raise
            call.uncancel()
            await refuse(name, context, revoked[0])
        finally:
            watching.cancel()


async def _nothing_after(handler: Awaitable[None]) -> AsyncIterator[Any]:
    await handler
    nothing: tuple[Any, ...] = ()
    for response in nothing:
        yield response


def _count(streaming: bool) -> str:
    """As gRPC's names have it."""
    return "stream" if streaming else "unary"


def _message(read: Callable[[bytes], Any], request: bytes) -> Any:
    try:
        return read(request)
    except DecodeError:
        raise InvalidError("request", "it can't be read") from None
