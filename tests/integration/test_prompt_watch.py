"""Who watches prompts has their present value at once and each change at once, never an older one after a newer one."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
import pytest
from lodestream_proto.v1.prompts_pb2 import PromptSelector, WatchedPrompt, WatchPromptsRequest

from shared.storage.prompt_cache import PromptCache
from tests.conftest import RunningService, StartService
from tests.support.gateway import MODULE, metric, new_key, opened, refusal
from tests.support.http2 import calls_unread
from tests.support.memory import MIB, peak, resident
from tests.support.polling import until
from tests.support.prompt_reading import Project, Reader, Truth, head_of, serving, truth_of
from tests.support.servers import Servers

WATCH = "/lodestream_proto.v1.PromptService/WatchPrompts"


@dataclass(frozen=True, slots=True)
class Stand:
    """A gateway and one project."""

    gateway: RunningService
    truth: Truth
    acme: Project
    reader: Reader
    database: str


@pytest.fixture
async def stand(servers: Servers, database: str, service: StartService) -> AsyncIterator[Stand]:
    project_id = f"acme-{uuid4().hex[:8]}"
    key = await new_key(database, project_id)
    truth, redis = truth_of({key.secret_key: project_id}), PromptCache(servers.redis, seconds=2)
    async with serving(truth) as query:
        gateway = await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_QUERY=query)
        async with opened(gateway.address, key) as door:
            acme = Project(project_id, truth, redis)
            yield Stand(gateway, truth, acme, Reader(door, gateway.address), database)
    await redis.aclose()


async def test_the_present_value_comes_at_once_and_then_each_change(stand: Stand) -> None:
    await stand.acme.change(head_of("a", 3, production=1))
    watch = stand.reader.watch("a", "unknown")
    first = await watch.read()
    assert [(outcome.prompt.name, outcome.found.text, outcome.revision) for outcome in first.changes] == [
        ("a", "a v1", 3),
        ("unknown", "", 0),
    ]
    for revision in range(4, 10):
        began = time.monotonic()
        await stand.acme.change(head_of("a", revision, production=revision))
        (outcome,) = (await watch.read()).changes
        assert (outcome.found.version, outcome.revision) == (revision, revision)
        assert time.monotonic() - began < 3
    await stand.acme.change(head_of("unknown", 1, production=1))
    (outcome,) = (await watch.read()).changes
    assert outcome.found.text == "unknown v1"
    await stand.acme.change(head_of("a", 10, archived=True, production=9))
    (outcome,) = (await watch.read()).changes
    assert (outcome.HasField("found"), outcome.revision) == (False, 10)
    watch.cancel()


async def test_who_comes_back_is_told_only_what_is_new(stand: Stand) -> None:
    await stand.acme.change(head_of("a", 3, production=1))
    watch = stand.reader.watch("a", known=3)
    assert list((await watch.read()).changes) == [], "at once, and empty"
    await stand.acme.change(head_of("a", 4, production=2))
    assert [outcome.revision for outcome in (await watch.read()).changes] == [4]
    watch.cancel()
    await stand.acme.change(head_of("a", 5, production=3))
    again = stand.reader.watch("a", known=4)
    changes = (await again.read()).changes or (await again.read()).changes  # the gateway may hear of it a moment later
    assert [outcome.revision for outcome in changes] == [5]
    again.cancel()


async def test_each_selector_is_told_what_it_means(stand: Stand) -> None:
    await stand.acme.change(head_of("a", 1, production=1, canary=3))
    selectors = [
        PromptSelector(name="a"),
        PromptSelector(name="a", label="canary"),
        PromptSelector(name="a", version=2),
        PromptSelector(name="a", label="nobody"),
    ]
    request = WatchPromptsRequest(prompts=[WatchedPrompt(prompt=selector) for selector in selectors])
    watch = stand.reader.prompts.WatchPrompts(request, metadata=stand.reader.door.bearer)
    first = await watch.read()
    assert [outcome.prompt for outcome in first.changes] == selectors
    assert [outcome.found.version for outcome in first.changes] == [1, 3, 2, 0]
    watch.cancel()


def looks(metrics: str) -> float:
    """How often a prompt was looked for outside of the gateway's memory."""
    return sum(
        metric(metrics, rf'lodestream_gateway_prompt_reads_total\{{found="{where}"\}}') for where in ("redis", "query")
    )


async def test_a_hundred_who_watch_are_told_at_once_for_one_look(stand: Stand) -> None:
    await stand.acme.change(head_of("a", 1, production=1))
    async with AsyncExitStack() as connections:
        readers = [await connections.enter_async_context(stand.reader.apart()) for _ in range(4)]
        watches = [reader.watch("a") for reader in readers * 25]
        assert {(await watch.read()).changes[0].revision for watch in watches} == {1}
        assert metric(stand.gateway.metrics, "lodestream_gateway_prompt_watchers") == 100
        before = looks(stand.gateway.metrics)
        began = time.monotonic()
        await stand.acme.change(head_of("a", 2, production=2))
        seen = await asyncio.gather(*(watch.read() for watch in watches))
        assert time.monotonic() - began < 3
        assert {response.changes[0].revision for response in seen} == {2}
        assert looks(stand.gateway.metrics) == before + 1
        for watch in watches:
            watch.cancel()

        async def gone() -> bool:
            return await asyncio.to_thread(metric, stand.gateway.metrics, "lodestream_gateway_prompt_watchers") == 0

        await until(gone, what="nothing left of those who hung up")


async def test_a_slow_client_gets_the_newest_and_no_backlog(stand: Stand) -> None:
    text = "x" * 500_000
    await stand.acme.change(head_of("a", 1, text=text, production=1))
    watch = stand.reader.watch("a")
    for revision in range(2, 60):
        await stand.acme.change(head_of("a", revision, text=text, production=1))
    revisions: list[int] = []
    while not revisions or revisions[-1] < 59:
        revisions += [outcome.revision for outcome in (await watch.read()).changes]
    assert revisions == sorted(set(revisions))
    assert len(revisions) < 59, "what was superseded before it could be sent is not sent"
    watch.cancel()


async def test_who_watches_and_never_reads_has_a_share_of_memory_and_keeps_nobody_waiting(stand: Stand) -> None:
    """60 streams of 27 MB each: one message is made of a stream, and of all no more than a project may have."""
    await stand.acme.change(head_of("large", 1, text="x" * 900_000, production=1))
    await stand.acme.change(head_of("a", 1, production=1))
    large = WatchedPrompt(prompt=PromptSelector(name="large"))
    request = WatchPromptsRequest(prompts=[large] * 30).SerializeToString()
    before = resident(stand.gateway.process)
    refused = r'lodestream_calls_total\{code="RESOURCE_EXHAUSTED",method="WatchPrompts"\}'

    async def settled() -> bool:
        if peak(stand.gateway.process) - before > 512 * MIB:
            return True
        return await asyncio.to_thread(metric, stand.gateway.metrics, refused, missing=0.0) > 0

    async with calls_unread(stand.gateway.address, WATCH, request, dict(stand.reader.door.bearer), count=60):
        await until(settled, deadline=60)
        watch = stand.reader.watch("a")
        assert [outcome.revision for outcome in (await watch.read()).changes] == [1]
        watch.cancel()
        assert peak(stand.gateway.process) - before < 256 * MIB


async def test_more_prompts_than_a_project_may_watch_are_refused(stand: Stand) -> None:
    names = [WatchedPrompt(prompt=PromptSelector(name=f"p{n}")) for n in range(990)]
    request = WatchPromptsRequest(prompts=names)
    watches = [stand.reader.prompts.WatchPrompts(request, metadata=stand.reader.door.bearer) for _ in range(21)]
    read = [asyncio.ensure_future(refusal(_all_of(watch))) for watch in watches]
    done, waiting = await asyncio.wait(read, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    error = done.pop().result()
    assert (error.code(), error.details()) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "too many watched prompts at once: this project has 20000, and none was free for 1 s; try again",
    )
    assert len(waiting) == 20
    for watch in watches:
        watch.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await until(partial(_is_let_in, stand), what="room again")


async def _is_let_in(stand: Stand) -> bool:
    watch = stand.reader.watch("a")
    try:
        return bool(await watch.read())
    except grpc.aio.AioRpcError:
        return False
    finally:
        watch.cancel()


async def _all_of(watch: Any) -> None:
    async for _ in watch:
        pass


async def test_signs_of_life_come_and_mean_that_all_still_holds(stand: Stand) -> None:
    await stand.acme.change(head_of("a", 1, production=1))
    watch = stand.reader.watch("a")
    await watch.read()
    began = time.monotonic()
    assert list((await watch.read()).changes) == []
    assert time.monotonic() - began < 15
    watch.cancel()


async def test_at_the_end_streams_are_closed_so_that_clients_go_elsewhere(stand: Stand) -> None:
    await stand.acme.change(head_of("a", 1, production=1))
    watch = stand.reader.watch("a")
    await watch.read()
    began = time.monotonic()
    stopping = asyncio.create_task(stand.gateway.process.stop())
    error = await refusal(watch.read())
    assert (error.code(), error.details()) == (
        grpc.StatusCode.UNAVAILABLE,
        "the gateway is going away: connect again",
    )
    await stopping
    assert time.monotonic() - began < 8, "nobody waits for streams that would never end"


async def test_what_cannot_be_watched_is_told(stand: Stand) -> None:
    for names, why in (
        (["a|b"], 'prompts[0].prompt.name: has a "|"'),
        ([], "prompts: are missing"),
        (["a"] * 1_001, "prompts: are 1001; at most 1000 are taken"),
    ):
        error = await refusal(stand.reader.watch(*names).read())
        assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, why)
