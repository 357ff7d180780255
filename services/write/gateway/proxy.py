"""Reads, forwarded to the query service as they are. It checks the key itself; nothing is added or trusted here."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from lodestream_proto.v1 import query_pb2

from shared.runtime.refusal import Context

_SERVICE = query_pb2.DESCRIPTOR.services_by_name["QueryService"]
_OF_THE_CONNECTION = ("grpc-", ":", "user-agent", "content-type")


def handlers(channel: grpc.aio.Channel) -> grpc.GenericRpcHandler:
    """A handler for every method of QueryService, from its descriptor: a new RPC needs no line here."""
    found: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for method in _SERVICE.methods:
        path = f"/{_SERVICE.full_name}/{method.name}"
        if method.server_streaming:
            found[method.name] = grpc.unary_stream_rpc_method_handler(_stream(channel, path))
        else:
            found[method.name] = grpc.unary_unary_rpc_method_handler(_unary(channel, path))
    return grpc.method_handlers_generic_handler(_SERVICE.full_name, found)


def _unary(channel: grpc.aio.Channel, path: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
    call: Any = channel.unary_unary(path)

    async def forward(request: bytes, context: Context) -> bytes:
        try:
            ongoing = call(request, metadata=_metadata(context), timeout=context.time_remaining())
            answer: bytes = await ongoing
            context.set_trailing_metadata(tuple(await ongoing.trailing_metadata() or ()))
        except grpc.aio.AioRpcError as error:
            await _abort(context, error)
        return answer

    return forward


def _stream(channel: grpc.aio.Channel, path: str) -> Callable[[bytes, Context], AsyncIterator[bytes]]:
    call: Any = channel.unary_stream(path)

    async def forward(request: bytes, context: Context) -> AsyncIterator[bytes]:
        ongoing = call(request, metadata=_metadata(context), timeout=context.time_remaining())
        try:
            async for answer in ongoing:
                yield answer
            context.set_trailing_metadata(tuple(await ongoing.trailing_metadata() or ()))
        except grpc.aio.AioRpcError as error:
            await _abort(context, error)
        finally:
            ongoing.cancel()

    return forward


def _metadata(context: Context) -> tuple[tuple[str, str | bytes], ...]:
    """The caller's, without what belongs to its connection."""
    metadata = context.invocation_metadata() or ()
    return tuple((key, value) for key, value in metadata if not key.startswith(_OF_THE_CONNECTION))


async def _abort(context: Context, error: grpc.aio.AioRpcError) -> None:
    details = error.details() or ""
    if error.code() == grpc.StatusCode.UNAVAILABLE and not error.trailing_metadata():
        details = "the query service does not answer; writes are not affected"
    await context.abort(error.code(), details, tuple(error.trailing_metadata() or ()))
