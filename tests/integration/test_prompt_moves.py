"""Two clients move one label, a thousand times each: the log decides, and the history is one line."""

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompt_event_pb2 import PromptLabelsMoved, PromptVersionCreated
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceStub

from tests.support.stack import Stack

MOVES, AT_ONCE = 1_000, 25  # together well below the calls that a connection may have under way


class Client:
    """Somebody who moves "production" of "greet", many times at once."""

    def __init__(self, stack: Stack) -> None:
        self._stub: Any = PromptServiceStub(stack.channel)
        self._metadata = stack.metadata()

    async def call(self, rpc: str, request: Any) -> Any:
        return await getattr(self._stub, rpc)(request, metadata=self._metadata, timeout=60)

    async def move(self, version: int, expected: int | None) -> int | None:
        """The revision; None: refused as a conflict."""
        move = PromptLabelsMoved(
            prompt_name="greet", version=version, labels=["production"], expected_revision=expected
        )
        try:
            return int((await self.call("MoveLabels", pb.MoveLabelsRequest(move=move))).revision)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ABORTED:
                raise
            return None

    async def revision(self) -> int:
        (summary,) = (await self.call("ListPrompts", pb.ListPromptsRequest())).prompts
        return int(summary.revision)

    async def move_often(self, *, expecting: bool) -> list[tuple[int | None, int]]:
        """What was expected and what came, of each move that was done."""
        done: list[tuple[int | None, int]] = []
        for wave in range(0, MOVES, AT_ONCE):
            expected = await self.revision() if expecting else None
            versions = [(wave + n) % 3 + 1 for n in range(AT_ONCE)]
            revisions = await asyncio.gather(*(self.move(version, expected) for version in versions))
            done += [(expected, revision) for revision in revisions if revision is not None]
        return done


@pytest.mark.timeout(300)
@pytest.mark.parametrize("expecting", [False, True])
async def test_two_clients_leave_one_history(stack: Stack, *, expecting: bool) -> None:
    clients = [Client(stack), Client(stack)]
    for _ in range(3):
        created = pb.CreatePromptRequest(prompt=PromptVersionCreated(prompt_name="greet", text="Hi"))
        first = (await clients[0].call("CreatePrompt", created)).revision
    first_done, second_done = await asyncio.gather(*(client.move_often(expecting=expecting) for client in clients))
    done = first_done + second_done
    if expecting:
        winners = Counter(revision for expected, revision in done if revision != expected)
        assert set(winners.values()) == {1}, "of all who expected a revision, one got it"
        assert all(expected is not None and revision - expected in (0, 1) for expected, revision in done)
    else:
        assert len(done) == 2 * MOVES, "nobody is refused"

    moves, token = [], ""
    while True:
        request = pb.LabelHistoryRequest(name="greet", label="production", page_size=1_000, page_token=token)
        page = await clients[0].call("LabelHistory", request)
        moves += page.moves
        token = page.next_page_token
        if not token:
            break
    moves.reverse()
    assert [move.revision for move in moves] == list(range(first + 1, first + 1 + len(moves)))
    holder = 0
    for move in moves:
        assert move.from_version == holder != move.to_version
        holder = move.to_version
    assert {revision for _, revision in done} - {first} == {move.revision for move in moves}
    if expecting:
        assert len(moves) >= MOVES // AT_ONCE
    else:
        assert len(moves) > MOVES
