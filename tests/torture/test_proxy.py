"""The proxy does what it says, or the strikes that use it prove nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from services.all_in_one.ports import HOST, find_port
from tests.support.polling import until
from tests.torture.proxy import Proxy


class Line:
    """A connection through the proxy to a server that repeats each line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def say(self, text: bytes) -> bytes:
        self.writer.write(text + b"\n")
        await self.writer.drain()
        return (await self._reader.readline()).removesuffix(b"\n")

    async def is_reset(self) -> bool:
        try:
            return await asyncio.wait_for(self._reader.read(1), 5) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
async def heard() -> list[bytes]:
    return []


@pytest.fixture
async def proxy(heard: list[bytes]) -> AsyncIterator[Proxy]:
    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                heard.append(line.removesuffix(b"\n"))
                writer.write(line)
        except ConnectionResetError:
            pass
        finally:
            writer.transport.abort()

    port = find_port()
    async with await asyncio.start_server(repeat, HOST, port), Proxy(f"{HOST}:{port}") as one:
        yield one


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def test_a_healthy_proxy_is_a_cable(proxy: Proxy) -> None:
    async with connected(proxy) as line:
        assert await line.say(b"hello") == b"hello"


async def test_a_cut_resets_and_goes_on_resetting(proxy: Proxy) -> None:
    async with connected(proxy) as line:
        await line.say(b"hello")
        proxy.cut()
        assert await line.is_reset()
    async with connected(proxy) as line:
        assert await line.is_reset()
    proxy.heal()
    async with connected(proxy) as line:
        assert await line.say(b"again") == b"again"


async def test_half_open_says_nothing_and_the_connection_never_recovers(proxy: Proxy, heard: list[bytes]) -> None:
    async with connected(proxy) as line:
        await line.say(b"hello")
        proxy.half_open()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(line.say(b"anybody?"), 0.2)
        proxy.heal()
        assert await line.is_reset()
    assert heard == [b"hello"]


async def test_a_delay_and_a_limit_take_their_time(proxy: Proxy) -> None:
    async with connected(proxy) as line:
        for slow in (partial(proxy.delay, 0.1), partial(proxy.limit, 10_000)):
            slow()
            begin = time.monotonic()
            assert await line.say(b"x" * 1000) == b"x" * 1000
            assert time.monotonic() - begin > 0.19
            proxy.heal()


@pytest.mark.parametrize("reply", [False, True])
async def test_a_message_or_its_answer_is_lost_once(proxy: Proxy, heard: list[bytes], *, reply: bool) -> None:
    proxy.lose(b"COMMIT", reply=reply)
    async with connected(proxy) as line:
        assert await line.say(b"BEGIN") == b"BEGIN"
        line.writer.write(b"COMMIT\n")
        assert await line.is_reset()
    await until(lambda: proxy.lost == 1)
    assert (b"COMMIT" in heard) is reply
    async with connected(proxy) as line:
        assert await line.say(b"COMMIT") == b"COMMIT"
