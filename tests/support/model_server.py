"""A model endpoint for tests, in this process: speaks chat completions, counts its calls, and misbehaves as told."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Says:
    """An answer to one call."""

    text: str = "It takes 14 days."
    status: int = 200
    headers: tuple[str, ...] = ()
    after_seconds: float = 0.0
    until: asyncio.Event | None = None
    """In place of a time."""
    raw: bytes | None = None
    """In place of a chat completion."""


@dataclass(slots=True)
class ModelServer:
    """What it was asked, in order."""

    answer: Callable[[int, dict[str, Any]], Says]
    """By the number of the call (from 0) and its body."""
    address: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    keys: Counter[str] = field(default_factory=Counter)
    """Idempotency keys."""
    at: list[float] = field(default_factory=list)
    """When, by the loop's clock."""
    broken_off: int = 0
    """Calls that the caller did not wait for."""
    under_way: int = 0
    most_under_way: int = 0

    def providers(self, folder: Path, **more: Any) -> str:
        """A file of providers that names this server "here", and the mock model "mock"."""
        path = folder / "providers.json"
        here = {"kind": "openai", "base_url": f"http://{self.address}/v1", **more}
        path.write_text(json.dumps({"here": here, "mock": {"kind": "mock"}}))
        return str(path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = json.loads(await reader.readexactly(int(fields["content-length"])))
                await self._answer(reader, writer, fields, body)
        writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fields: dict[str, str], body: dict[str, Any]
    ) -> None:
        says = self.answer(len(self.calls), body)
        self.calls.append(body)
        self.at.append(asyncio.get_running_loop().time())
        self.keys[fields.get("idempotency-key", "")] += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            gone = asyncio.ensure_future(reader.read(1))
            now = asyncio.ensure_future(says.until.wait() if says.until else asyncio.sleep(says.after_seconds))
            await asyncio.wait({gone, now}, return_when=asyncio.FIRST_COMPLETED)
            broken_off = not now.done()
            gone.cancel()
            now.cancel()
            await asyncio.gather(gone, now, return_exceptions=True)
            if broken_off:
                self.broken_off += 1
                raise ConnectionResetError
        finally:
            self.under_way -= 1
        content = completion(says.text) if says.raw is None else says.raw
        lines = [f"HTTP/1.1 {says.status} x", f"content-length: {len(content)}", "content-type: application/json"]
        writer.write("\r\n".join((*lines, *says.headers, "", "")).encode() + content)
        await writer.drain()


def completion(text: str) -> bytes:
    """A chat completion with ten tokens in and five out."""
    told = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "mock-large",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }  # fmt: skip
    return json.dumps(told).encode()


@asynccontextmanager
async def model_server(
    answer: Callable[[int, dict[str, Any]], Says] = lambda _n, _body: Says(),
) -> AsyncIterator[ModelServer]:
    """A server, until the end of the body."""
    model = ModelServer(answer)
    server = await asyncio.start_server(model.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    model.address = f"{host}:{port}"
    try:
        yield model
    finally:
        server.close()
