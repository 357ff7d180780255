"""A TCP proxy that does what networks do: cut, delay, stall, throttle, and lose one message or its answer."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Self

from services.all_in_one.ports import HOST, find_port

_CHUNK = 64 * 1024


class Proxy:
    """Stands before one address. Healthy until told otherwise."""

    def __init__(self, target: str) -> None:
        """`target` is host:port; it need not be there yet."""
        self.port = find_port()
        self.lost = 0
        """How many messages or answers were lost on request."""
        self._target = target
        self._links: set[_Link] = set()
        self._serving: asyncio.Server | None = None
        self._passes = asyncio.Event()
        self._passes.set()
        self._cut = False
        self._delay = 0.0
        self._rate = 0.0
        self._needle, self._after = b"", False

    @property
    def address(self) -> str:
        """host:port to connect to."""
        return f"{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        self._serving = await asyncio.start_server(self._accept, HOST, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._serving is not None
        self._serving.close()
        self.drop()
        await asyncio.gather(*(link.ended.wait() for link in self._links))
        await self._serving.wait_closed()

    def drop(self) -> None:
        """Reset every connection there is."""
        for link in self._links:
            link.abort()

    def cut(self) -> None:
        """Reset every connection, and every new one at once."""
        self._cut = True
        self.drop()

    def half_open(self) -> None:
        """Connections stay, and nothing passes: the other end is gone without a word."""
        self._passes.clear()

    def delay(self, seconds: float) -> None:
        """Each chunk comes later by so much, in either direction."""
        self._delay = seconds

    def limit(self, bytes_per_second: float) -> None:
        """Of each connection, in either direction."""
        self._rate = bytes_per_second

    def lose(self, needle: bytes, *, reply: bool) -> None:
        """Of the next chunk to the server that holds `needle`, lose it, or let it through and lose its answer.

        The connection is reset in its place.
        """
        self._needle, self._after = needle, reply

    def heal(self) -> None:
        """Healthy again. What hung in a half-open connection is gone with it."""
        if not self._passes.is_set():
            self.drop()
        self._passes.set()
        self._cut, self._delay, self._rate, self._needle = False, 0.0, 0.0, b""

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            if not self._cut:
                await self._join(link, reader, writer)
        finally:
            link.abort()
            self._links.discard(link)
            link.ended.set()

    async def _join(self, link: "_Link", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        with suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection(host, int(port))
            link.writers.append(server_writer)
            if not link.aborted:
                up = self._pump(link, reader, server_writer, up=True)
                await _first(up, self._pump(link, server_reader, writer, up=False))

    async def _pump(
        self, link: "_Link", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._loses(link, data, up=up):
                    return
                if pause := self._delay + (len(data) / self._rate if self._rate else 0.0):
                    await asyncio.sleep(pause)
                await self._passes.wait()
                writer.write(data)
                await writer.drain()

    def _loses(self, link: "_Link", data: bytes, *, up: bool) -> bool:
        if not up:
            self.lost += link.answerless
            return link.answerless
        if self._needle and self._needle in data:
            self._needle = b""
            link.answerless = self._after
            self.lost += not self._after
            return not self._after
        return False


class _Link:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.answerless = self.aborted = False
        self.ended = asyncio.Event()

    def abort(self) -> None:
        self.aborted = True
        for writer in self.writers:
            writer.transport.abort()


async def _first(*pumps: Awaitable[None]) -> None:
    """Until one of them ends: a connection has two directions or none."""
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
