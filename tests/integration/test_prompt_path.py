"""Commands through Kafka, the projection, Postgres and Redis to every reader: one history, never backwards."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import grpc
import pytest
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompt_event_pb2 import PromptLabelRolledBack, PromptLabelsMoved, PromptVersionCreated
from lodestream_proto.v1.query_pb2 import WaitFor

from shared.event_log.topics import PROMPTS
from tests.conftest import RunningService, StartService
from tests.support.gateway import MODULE, new_key, opened, refusal
from tests.support.polling import until
from tests.support.prompt_reading import Reader
from tests.support.read_model import begin_at_the_end
from tests.support.servers import Servers


@dataclass(frozen=True, slots=True)
class Stand:
    """Two gateways, each with a client; a projection and a query service."""

    projection: RunningService
    clients: tuple[Reader, Reader]
    stranger: Reader
    """Of another project, at the first gateway."""

    async def create(self, name: str, text: str, *labels: str, command_id: str = "", by: int = 0) -> Any:
        prompt = PromptVersionCreated(prompt_name=name, text=text, config_json="{}", labels=labels)
        request = pb.CreatePromptRequest(command_id=command_id, prompt=prompt)
        return await self.clients[by].prompts.CreatePrompt(request, metadata=self.metadata, timeout=20)

    async def move(self, name: str, version: int, label: str, *, by: int = 0, **expected: Any) -> Any:
        move = PromptLabelsMoved(prompt_name=name, version=version, labels=[label], **expected)
        request = pb.MoveLabelsRequest(command_id=str(uuid.uuid4()), move=move)
        return await self.clients[by].prompts.MoveLabels(request, metadata=self.metadata, timeout=20)

    @property
    def metadata(self) -> Any:
        return self.clients[0].door.bearer


@pytest.fixture
async def stand(servers: Servers, database: str, service: StartService) -> AsyncIterator[Stand]:
    await begin_at_the_end(servers.kafka, database, "prompts", PROMPTS)
    run = uuid.uuid4().hex[:8]
    acme, other = [await new_key(database, f"{name}-{run}") for name in ("acme", "other")]
    settings = {"LODESTREAM_POSTGRES": database, "LODESTREAM_PROMPTS_GROUP": f"test-{run}"}
    query, projection = await asyncio.gather(
        service("services.read.query", **settings), service("services.projections.prompts", **settings)
    )
    first, second = await asyncio.gather(
        *(service(MODULE, LODESTREAM_QUERY=query.address, **settings) for _ in range(2))
    )
    async with opened(first.address, acme) as door, opened(second.address, acme) as another:
        clients = Reader(door, first.address), Reader(another, second.address)
        yield Stand(projection, clients, Reader(door.with_key(other), first.address))


async def test_what_a_writer_was_answered_every_reader_finds(stand: Stand) -> None:
    here, there = stand.clients
    command_id = str(uuid.uuid4())
    created = await stand.create("a/b", "Hello", "production", command_id=command_id)
    assert (created.version, created.revision) == (1, 1)
    assert (await here.get("a/b")).text == "Hello", "through the gateway of the write, at once"
    wait_for = WaitFor(position=created.position, timeout_ms=10_000)
    assert (await there.get("a/b", wait_for=wait_for)).text == "Hello"
    again = await stand.create("a/b", "Hello", "production", command_id=command_id, by=1)
    assert (again.version, again.revision) == (1, 1)
    assert (await refusal(stand.stranger.get("a/b"))).code() == grpc.StatusCode.NOT_FOUND

    second = await stand.create("a/b", "Good day")
    assert (second.version, second.revision) == (2, 2)
    assert [(await here.get("a/b", **which)).text for which in ({}, {"label": "latest"})] == ["Hello", "Good day"]  # type: ignore[arg-type]
    conflict = await refusal(stand.move("a/b", 2, "production", expected_revision=1))
    assert conflict.code() == grpc.StatusCode.ABORTED
    missing = await refusal(stand.move("a/b", 9, "production"))
    assert missing.code() == grpc.StatusCode.NOT_FOUND
    moved = await stand.move("a/b", 2, "production", expected_revision=2)
    assert moved.revision == 3
    assert (await here.get("a/b")).text == "Good day"
    back = pb.RollBackLabelRequest(roll_back=PromptLabelRolledBack(prompt_name="a/b", label="production"))
    rolled_back = await there.prompts.RollBackLabel(back, metadata=stand.metadata, timeout=20)
    assert (rolled_back.version, rolled_back.revision) == (1, 4)
    assert (await there.get("a/b")).text == "Hello"
    await here.sees("a/b", 4, within=4)


async def test_while_the_projection_is_away_the_command_id_is_told_and_its_verdict_comes_later(stand: Stand) -> None:
    await stand.create("a", "one", "production")
    await stand.projection.process.stop()
    command_id = str(uuid.uuid4())
    error = await refusal(stand.create("a", "two", "production", command_id=command_id))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert f"the log has command {command_id}" in (error.details() or "")
    assert (await stand.clients[0].get("a")).text == "one", "reads go on"
    await stand.projection.process.start()

    async def decided() -> Any:
        try:
            return await stand.create("a", "two", "production", command_id=command_id)
        except grpc.aio.AioRpcError as late:
            return None if late.code() == grpc.StatusCode.UNAVAILABLE else late

    answer = await until(decided, deadline=60)
    assert (answer.version, answer.revision) == (2, 2), "once, however often it was sent"
    assert (await stand.clients[0].get("a")).text == "two"


async def test_two_who_move_one_label_leave_a_history_that_no_reader_sees_backwards(stand: Stand) -> None:
    moves = 60
    for text in ("one", "two"):
        await stand.create("a", text, "production")
    watches = [client.watch("a") for client in stand.clients]
    reading, seen = True, [list[int]() for _ in stand.clients]
    told = [list[int]() for _ in stand.clients]

    async def read(n: int) -> None:
        while reading:
            seen[n].append((await stand.clients[n].get("a")).revision)

    async def follow(n: int) -> None:
        while True:
            told[n] += [outcome.revision for outcome in (await watches[n].read()).changes]

    async def write(n: int) -> list[int]:
        return [(await stand.move("a", 1 + number % 2, "production", by=n)).revision for number in range(moves)]

    readers = [asyncio.create_task(read(n)) for n in range(2)]
    followers = [asyncio.create_task(follow(n)) for n in range(2)]
    written = await asyncio.gather(write(0), write(1))
    final = max(written[0][-1], written[1][-1])
    await until(lambda: [revisions[-1] for revisions in told] == [final, final], what=f"both told of {final}")
    reading = False
    await asyncio.gather(*readers)
    for follower in followers:
        follower.cancel()
    for revisions in (*written, *seen, *told):
        assert revisions == sorted(revisions)
    history = await stand.clients[0].prompts.LabelHistory(
        pb.LabelHistoryRequest(name="a", label="production", page_size=1_000), metadata=stand.metadata, timeout=20
    )
    chain = [(move.from_version, move.to_version) for move in reversed(history.moves)]
    assert all(before[1] == after[0] for before, after in pairwise(chain)), "one holder at a time"
    assert [move.revision for move in reversed(history.moves)] == list(range(1, final + 1)), "one move a revision"
    assert final > moves, "not all of them found the label where they would have it"
    for watch in watches:
        watch.cancel()
