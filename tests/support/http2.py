"""An HTTP/2 client that calls and never reads: it gives the server no room for an answer.

Frames are those of RFC 9113, header fields are literals without indexing of RFC 7541.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_INITIAL_WINDOW_SIZE = 4


@asynccontextmanager
async def calls_unread(
    address: str, method: str, request: bytes, metadata: Mapping[str, str], *, count: int
) -> AsyncIterator[None]:
    """So many unary gRPC calls on one connection, to whose answers the server may not write a byte."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    writer.write(_frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0)))
    writer.write(_frame(_SETTINGS, _ACK, 0, b""))
    fields = {
        ":method": "POST", ":scheme": "http", ":path": method, ":authority": address,
        "content-type": "application/grpc", "te": "trailers", **metadata,
    }  # fmt: skip
    block = b"".join(_literal(name, value) for name, value in fields.items())
    for number in range(count):
        stream = 2 * number + 1
        writer.write(_frame(_HEADERS, _END_HEADERS, stream, block))
        writer.write(_frame(_DATA, _END_STREAM, stream, struct.pack(">BI", 0, len(request)) + request))
    await writer.drain()
    try:
        yield
    finally:
        writer.close()
        del reader


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: str, value: str) -> bytes:
    assert len(name) < 127
    assert len(value) < 127
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
