"""Prompts are read from memory, else from Redis, else from the query service; what was seen never goes back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.prompts_pb2 import PromptSelector
from lodestream_proto.v1.query_pb2 import WaitFor
from redis.asyncio import Redis

from shared.storage.prompt_cache import Miss, PromptCache, head_key
from tests.conftest import StartService
from tests.support.gateway import MODULE, new_key, opened, refusal
from tests.support.polling import until
from tests.support.prompt_reading import Project, Reader, Truth, head_of, serving, truth_of, version_of
from tests.support.servers import Servers


@dataclass(frozen=True, slots=True)
class Stand:
    """Two gateways, each with its own memory, one Redis, one query service, two projects."""

    truth: Truth
    acme: Project
    other: Project
    reader: Reader
    second: Reader
    stranger: Reader
    """Of the other project, at the first gateway."""


@pytest.fixture
async def stand(servers: Servers, database: str, service: StartService) -> AsyncIterator[Stand]:
    ids = [f"{name}-{uuid4().hex[:8]}" for name in ("acme", "other")]
    acme, other = [await new_key(database, project_id) for project_id in ids]
    truth, redis = truth_of({acme.secret_key: ids[0], other.secret_key: ids[1]}), PromptCache(servers.redis, seconds=2)
    async with serving(truth) as query:
        settings = {"LODESTREAM_POSTGRES": database, "LODESTREAM_QUERY": query}
        first, second = await asyncio.gather(service(MODULE, **settings), service(MODULE, **settings))
        async with opened(first.address, acme) as door, opened(second.address, acme) as another:
            yield Stand(
                truth,
                Project(ids[0], truth, redis),
                Project(ids[1], truth, redis),
                Reader(door, first.address),
                Reader(another, second.address),
                Reader(door.with_key(other), first.address),
            )
    await redis.aclose()


async def test_a_prompt_is_found_by_label_and_version_with_what_points_to_it(stand: Stand) -> None:
    await stand.acme.change(head_of("a/b", 7, production=2, stable=2, canary=4))
    found = await stand.reader.get("a/b")
    assert (found.version, found.text, found.revision) == (2, "a/b v2", 7)
    assert list(found.labels) == ["production", "stable"]
    assert (await stand.reader.get("a/b", label="latest")).version == 4
    assert (await stand.reader.get("a/b", version=4)).labels == ["canary", "latest"]
    unlabelled = await stand.reader.get("a/b", version=3)
    assert (unlabelled.text, list(unlabelled.labels), unlabelled.revision) == ("a/b v3", [], 7)


@pytest.mark.parametrize(
    ("name", "which", "told"),
    [
        ("nobody", {}, "this project has no prompt 'nobody'"),
        ("a", {"version": 9}, "this project has no version 9 of prompt 'a'"),
        ("a", {"label": "eu"}, "this project has no label 'eu' of prompt 'a'"),
        ("gone", {}, "this project has no prompt 'gone'"),
        ("gone", {"version": 1}, "this project has no prompt 'gone'"),
    ],
)
async def test_what_is_not_there_is_told_by_its_name(stand: Stand, name: str, which: dict[str, Any], told: str) -> None:
    await stand.acme.change(head_of("a", 1, production=1))
    await stand.acme.change(head_of("gone", 3, archived=True, production=1))
    error = await refusal(stand.reader.get(name, **which))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, told)


async def test_two_hundred_first_readers_at_once_are_one_question(stand: Stand) -> None:
    stand.truth.pause = 0.2
    await stand.acme.change(head_of("a", 1, production=3), told=False)
    async with AsyncExitStack() as connections:
        readers = [await connections.enter_async_context(stand.reader.apart()) for _ in range(4)]

        async def ask(**which: Any) -> set[str]:
            return {version.text for version in await asyncio.gather(*(r.get("a", **which) for r in readers * 50))}

        assert await ask() == {"a v3"}
        assert stand.truth.asked == {"a": 1}
        assert await ask(version=2) == {"a v2"}
        assert stand.truth.asked == {"a": 1, "a:2": 1}


async def test_a_name_that_nobody_has_is_asked_for_once_in_some_seconds(stand: Stand) -> None:
    stand.truth.pause = 0.2
    unknown = await asyncio.gather(*(refusal(stand.reader.get("nobody")) for _ in range(30)))
    unknown += await asyncio.gather(*(refusal(stand.reader.get("nobody")) for _ in range(30)))
    assert {error.details() for error in unknown} == {"this project has no prompt 'nobody'"}
    assert stand.truth.asked == {"nobody": 1}
    await stand.acme.change(head_of("nobody", 1, production=1))

    async def known() -> bool:
        try:
            return (await stand.reader.get("nobody")).version == 1
        except grpc.aio.AioRpcError:
            return False

    await until(known, deadline=3, what="the prompt that is new")


async def test_what_one_gateway_has_read_another_finds_in_redis(stand: Stand) -> None:
    await stand.acme.change(head_of("a", 1, production=3), told=False)
    await stand.reader.get("a")
    await stand.reader.get("a", version=2)
    place = (stand.acme.project_id, "a")

    async def filled() -> bool:
        (looked,) = await stand.acme.redis.look([place])
        return not isinstance(looked, Miss) and await stand.acme.redis.version(place, 2) is not None

    await until(filled, what="what was read, offered to Redis")
    assert (await stand.second.get("a")).text == "a v3"
    assert (await stand.second.get("a", version=2)).text == "a v2"
    assert stand.truth.asked == {"a": 1, "a:2": 1}


async def test_a_change_is_told_to_every_gateway(stand: Stand) -> None:
    await stand.acme.change(head_of("a", 1, production=1))
    assert [(await reader.get("a")).version for reader in (stand.reader, stand.second)] == [1, 1]
    await stand.acme.change(head_of("a", 2, production=2))
    await asyncio.gather(*(reader.sees("a", 2, within=3) for reader in (stand.reader, stand.second)))
    assert not stand.truth.asked, "all of it is in Redis"


async def test_a_change_that_nobody_told_of_is_seen_after_some_seconds(stand: Stand, servers: Servers) -> None:
    await stand.acme.change(head_of("a", 1, production=1))
    await stand.reader.get("a")
    await stand.acme.change(head_of("a", 2, production=2), told=False)
    async with Redis.from_url(servers.redis) as redis:
        await redis.delete(head_key(stand.acme.project_id, "a"))
    await stand.reader.sees("a", 2, within=7)


async def test_what_was_seen_never_goes_back(stand: Stand, servers: Servers) -> None:
    await stand.acme.change(head_of("a", 5, production=5))
    await stand.reader.sees("a", 5)
    async with Redis.from_url(servers.redis) as redis:
        await redis.delete(head_key(stand.acme.project_id, "a"))
    late = Project(stand.acme.project_id, truth_of({}), stand.acme.redis)
    await late.change(head_of("a", 4, production=4))  # of somebody who read Postgres before
    began, seen = time.monotonic(), set()
    while time.monotonic() - began < 7:
        seen.add((await stand.reader.get("a")).revision)
        await asyncio.sleep(0.1)
    assert seen == {5}
    await stand.second.sees("a", 5)


async def test_many_names_in_one_call_are_answered_in_order(stand: Stand) -> None:
    for n in range(30):
        await stand.acme.change(head_of(f"p{n}", n + 1, production=2), told=n % 2 == 0)
    selectors = [PromptSelector(name=f"p{n}") for n in range(31)]
    selectors += [PromptSelector(name="p1", version=1), PromptSelector(name="p1", label="eu")]
    for _ in range(2):
        outcomes = await stand.reader.get_many(*selectors)
        assert [outcome.prompt for outcome in outcomes] == selectors
        assert [outcome.found.text for outcome in outcomes[:30]] == [f"p{n} v2" for n in range(30)]
        assert [outcome.revision for outcome in outcomes] == [*range(1, 31), 0, 2, 2]
        assert [outcome.HasField("found") for outcome in outcomes[30:]] == [False, True, False]
        assert outcomes[31].found.text == "p1 v1"
    assert stand.truth.asked == {**{f"p{n}": 1 for n in range(1, 30, 2)}, "p30": 1, "p1:1": 1}
    error = await refusal(stand.reader.get_many(*(PromptSelector(name="a") for _ in range(1_001))))
    assert error.details() == "prompts: are 1001; at most 1000 are taken"
    error = await refusal(stand.reader.get_many(PromptSelector(name="a"), PromptSelector(name="a|b")))
    assert error.details() == 'prompts[1].name: has a "|"'


async def test_projects_do_not_see_each_others_prompts(stand: Stand) -> None:
    await stand.acme.change(head_of("a", 1, text="ours", production=1))
    await stand.other.change(head_of("a", 9, text="theirs", production=1))
    for _ in range(2):
        assert ((await stand.reader.get("a")).text, (await stand.stranger.get("a")).text) == ("ours", "theirs")
    await stand.other.change(head_of("b", 1, production=1))
    await stand.stranger.get("b")
    assert (await refusal(stand.reader.get("b"))).code() == grpc.StatusCode.NOT_FOUND
    nobody = await refusal(stand.reader.prompts.GetPrompt(PromptSelector(name="a"), timeout=5))
    assert nobody.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_read_that_waits_for_a_write_goes_around_what_may_be_older(stand: Stand) -> None:
    await stand.acme.change(head_of("a", 1, production=1))
    await stand.reader.get("a")
    stand.truth.heads[stand.acme.project_id, "a"] = head_of("a", 2, production=2)  # decided, not told yet
    wait_for = WaitFor(position="lodestream.prompts:0:7")
    assert (await stand.reader.get("a", wait_for=wait_for)).revision == 2
    assert stand.truth.asked == {"lodestream.prompts:0:7": 1}
    assert (await stand.reader.get("a")).revision == 2
    assert (await stand.reader.get("a", wait_for=wait_for)).revision == 2
    assert stand.truth.asked == {"lodestream.prompts:0:7": 1, "a": 1}, "it is known that the write is in revision 2"


async def test_the_past_is_asked_of_the_query_service(stand: Stand) -> None:
    await stand.acme.change(head_of("a", 1, production=1))
    await stand.reader.get("a", as_of=Timestamp(seconds=1_700_000_000))
    assert stand.truth.asked == {"1700000000": 1}


async def test_a_large_prompt_is_served_whole(stand: Stand) -> None:
    text = "x" * 1_000_000
    await stand.acme.change(head_of("a", 1, text=text, production=1))
    whole = version_of("a", 1, text)
    whole.labels[:], whole.revision = ["latest", "production"], 1
    assert await stand.reader.get("a") == whole
