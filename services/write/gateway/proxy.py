"""Reads, forwarded to the query service as they are. It checks the key itself; nothing is added or trusted here."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from shared.runtime.refusal import Context

_OF_THE_CONNECTION = ("grpc-", ":", "user-agent", "content-type")


def forwarded(
    channel: grpc.aio.Channel, service: ServiceDescriptor, *, but: Collection[str] = ()
) -> dict[str, "grpc.RpcMethodHandler[bytes, bytes]"]:
    """A handler for every method of a service `but` for some, from its descriptor: a new RPC needs no line here."""
    found: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for method in service.methods:
        if method.name in but:
            continue
        path = f"/{service.full_name}/{method.name}"
        if method.server_streaming:
            found[method.name] = grpc.unary_stream_rpc_method_handler(forward_stream(channel, path))
        else:
            found[method.name] = grpc.unary_unary_rpc_method_handler(forward(channel, path))
    return found


def forward(channel: grpc.aio.Channel, path: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
    """One method whose answer is one message."""
    call: Any = channel.unary_unary(path)

    async def answer(request: bytes, context: Context) -> bytes:
        try:
            ongoing = call(request, metadata=metadata_of(context), timeout=context.time_remaining())
            its: bytes = await ongoing
            context.set_trailing_metadata(tuple(await ongoing.trailing_metadata() or ()))
        except grpc.aio.AioRpcError as error:
            await _abort(context, error)
        return its

    return answer


def forward_stream(channel: grpc.aio.Channel, path: str) -> Callable[[bytes, Context], AsyncIterator[bytes]]:
    """One method whose answer is a stream."""
    call: Any = channel.unary_stream(path)

    async def answers(request: bytes, context: Context) -> AsyncIterator[bytes]:
        ongoing = call(request, metadata=metadata_of(context), timeout=context.time_remaining())
        try:
            async for answer in ongoing:
                yield answer
            context.set_trailing_metadata(tuple(await ongoing.trailing_metadata() or ()))
        except grpc.aio.AioRpcError as error:
            await _abort(context, error)
        finally:
            ongoing.cancel()

    return answers


def metadata_of(context: Context) -> tuple[tuple[str, str | bytes], ...]:
    """The caller's, without what belongs to its connection."""
    metadata = context.invocation_metadata() or ()
    return tuple((key, value) for key, value in metadata if not key.startswith(_OF_THE_CONNECTION))


async def _abort(context: Context, error: grpc.aio.AioRpcError) -> None:
    details = error.details() or ""
    if error.code() == grpc.StatusCode.UNAVAILABLE and not error.trailing_metadata():
        details = "the query service does not answer; writes are not affected"
    await context.abort(error.code(), details, tuple(error.trailing_metadata() or ()))
