"""Is a process of ours ready? `python -m shared.runtime.probe grpc|http HOST:PORT` exits with 0 when it says so."""

import argparse
import asyncio
import contextlib
import sys

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

_PATIENCE = 3.0  # seconds for the answer


async def grpc_serves(address: str, service: str = "") -> bool:
    """SERVING is said of a gRPC service by its full name, of the process as a whole by default."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer = await HealthStub(channel).Check(HealthCheckRequest(service=service), timeout=_PATIENCE)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == HealthCheckResponse.SERVING)


async def http_healthy(address: str) -> bool:
    """GET /health answers with a 2xx."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                status_line = await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
    return status_line.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2"))


def main() -> None:
    """Ask once; exit 1 when it is not ready."""
    parser = argparse.ArgumentParser(prog="python -m shared.runtime.probe", description=main.__doc__)
    parser.add_argument("kind", choices=["grpc", "http"])
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("service", nargs="?", default="", help="of a grpc process: the full name of a service of it")
    arguments = parser.parse_args()
    question = (
        grpc_serves(arguments.address, arguments.service)
        if arguments.kind == "grpc"
        else http_healthy(arguments.address)
    )
    ready = asyncio.run(question)
    sys.exit(0 if ready else 1)


if __name__ == "__main__":
    main()
