"""The least that a gRPC server in Python can do, to compare others with: the same bytes in answer to everything."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import grpc
import uvloop

ECHO = "/echo.Echo/Echo"


@contextmanager
def echoing(answer: bytes) -> Iterator[tuple[str, int]]:
    """The address and the process id of a bare grpc.aio server with this answer."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(answer, theirs), daemon=True)
    process.start()
    try:
        assert process.pid is not None
        yield ours.recv(), process.pid
    finally:
        process.kill()
        process.join()


def _main(answer: bytes, pipe: Connection) -> None:
    uvloop.run(_serve(answer, pipe))


async def _serve(answer: bytes, pipe: Connection) -> None:
    async def echo(_request: bytes, _context: Any) -> bytes:
        return answer

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(f"127.0.0.1:{port}")
    await asyncio.Event().wait()
