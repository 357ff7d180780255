"""Reads, forwarded to the query service as they are.

The query service checks the key itself (docs/decisions/0009): nothing is added or trusted here.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from shared.runtime.refusal import Context

TRANSIENT_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
"""The statuses of calls to the query service that may succeed when they are made again."""
_CONNECTION_METADATA = ("grpc-", ":", "user-agent", "content-type")


def service_handler(
    channel: grpc.aio.Channel, service: ServiceDescriptor, methods: Mapping[str, Any]
) -> grpc.GenericRpcHandler:
    """Return the handler of a service some of whose methods are served here, and all others forwarded.

    Args:
        channel: The channel to the query service.
        service: The service.
        methods: The RpcMethodHandlers of those that are served here, from bytes to bytes, by name.
    """
    return grpc.method_handlers_generic_handler(
        service.full_name, {**forwarded(channel, service, but=methods), **methods}
    )


def forwarded(
    channel: grpc.aio.Channel, service: ServiceDescriptor, *, but: Collection[str] = ()
) -> dict[str, "grpc.RpcMethodHandler[bytes, bytes]"]:
    """Return a handler for every method of a service `but` for some: a new RPC that reads needs no line here."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for method in service.methods:
        if method.name in but:
            continue
        path = f"/{service.full_name}/{method.name}"
        if method.server_streaming:
            handlers[method.name] = grpc.unary_stream_rpc_method_handler(forward_stream(channel, path))
        else:
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(forward(channel, path))
    return handlers


def forward(channel: grpc.aio.Channel, path: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
    """Return the forwarding of a method whose response is one message."""
    call: Any = channel.unary_unary(path)

    async def call_on(request: bytes, context: Context) -> bytes:
        try:
            ongoing = call(request, metadata=metadata_of(context), timeout=context.time_remaining())
            response: bytes = await ongoing
            context.set_trailing_metadata(tuple(await ongoing.trailing_metadata() or ()))
        except grpc.aio.AioRpcError as error:
            await _abort(context, error)
        return response

    return call_on


def forward_stream(channel: grpc.aio.Channel, path: str) -> Callable[[bytes, Context], AsyncIterator[bytes]]:
    """Return the forwarding of a method whose responses are a stream."""
    call: Any = channel.unary_stream(path)

    async def stream(request: bytes, context: Context) -> AsyncIterator[bytes]:
        ongoing = call(request, metadata=metadata_of(context), timeout=context.time_remaining())
        try:
            async for response in ongoing:
                yield response
            context.set_trailing_metadata(tuple(await ongoing.trailing_metadata() or ()))
        except grpc.aio.AioRpcError as error:
            await _abort(context, error)
        finally:
            ongoing.cancel()

    return stream


def metadata_of(context: Context) -> tuple[tuple[str, str | bytes], ...]:
    """Return the caller's metadata, without what belongs to its connection."""
    metadata = context.invocation_metadata() or ()
    return tuple((key, value) for key, value in metadata if not key.startswith(_CONNECTION_METADATA))


async def _abort(context: Context, error: grpc.aio.AioRpcError) -> None:
    details = error.details() or ""
    if error.code() == grpc.StatusCode.UNAVAILABLE and not error.trailing_metadata():
        details = "the query service does not answer; writes are not affected"
    await context.abort(error.code(), details, tuple(error.trailing_metadata() or ()))
