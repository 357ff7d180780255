"""Prompts as a program sees them, on the real stack: what the log decides is what `get_prompt` gives."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lodestream import Lodestream, PromptNotFoundError, PromptUnavailableError

from tests.support.polling import until
from tests.support.stack import Stack


@pytest.fixture
async def clients(stack: Stack, tmp_path: Path) -> AsyncIterator[list[Lodestream]]:
    """Two programs of the project "acme", and one of another."""
    made = [
        Lodestream(endpoint=stack.address, secret_key=stack.keys[project].secret_key, spool_dir=tmp_path / str(number))
        for number, project in enumerate(("acme", "acme", "other"))
    ]
    yield made
    for client in made:
        await asyncio.to_thread(client.shutdown)


def text_of(client: Lodestream, name: str) -> str:
    return client.get_prompt(name, type="text").prompt


async def test_a_move_reaches_other_programs(stack: Stack, clients: list[Lodestream]) -> None:
    owner, program, stranger = clients
    await asyncio.to_thread(owner.create_prompt, "p", "one", labels=["production"])
    assert await asyncio.to_thread(text_of, program, "p") == "one"
    with pytest.raises(PromptNotFoundError):
        await asyncio.to_thread(text_of, stranger, "p")

    await asyncio.to_thread(owner.create_prompt, "p", "two")
    await asyncio.to_thread(owner.update_prompt, "p", 2, ["production"])
    await until(lambda: asyncio.to_thread(lambda: text_of(program, "p") == "two"), what="the move is seen")
    await asyncio.to_thread(owner.roll_back_prompt, "p")
    await until(lambda: asyncio.to_thread(lambda: text_of(program, "p") == "one"), what="the roll-back is seen")


async def test_programs_go_on_without_the_gateway(stack: Stack, clients: list[Lodestream], tmp_path: Path) -> None:
    owner, program, _ = clients
    await asyncio.to_thread(owner.create_prompt, "p", "one", labels=["production"])
    assert await asyncio.to_thread(text_of, program, "p") == "one"
    stack.gateway.kill()
    before = time.monotonic()
    for _ in range(1_000):
        assert text_of(program, "p") == "one"
    assert time.monotonic() - before < 1
    restarted = Lodestream(endpoint=stack.address, secret_key=stack.keys["acme"].secret_key, spool_dir=tmp_path / "1")
    assert await asyncio.to_thread(text_of, restarted, "p") == "one", "the last known good"
    with pytest.raises(PromptUnavailableError):
        await asyncio.to_thread(lambda: restarted.get_prompt("q", max_retries=0, fetch_timeout_seconds=1))
    assert restarted.get_prompt("q", fallback="mine", max_retries=0, fetch_timeout_seconds=1).is_fallback

    await stack.gateway.start()
    await until(lambda: asyncio.to_thread(lambda: owner.check_connection().ok), what="the gateway is back")
    assert (await asyncio.to_thread(owner.create_prompt, "p", "two", labels=["production"])).version == 2
    await until(lambda: asyncio.to_thread(lambda: text_of(program, "p") == "two"), what="the watch is back")
    await asyncio.to_thread(restarted.shutdown)
