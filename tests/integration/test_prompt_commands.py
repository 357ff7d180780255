"""A command about a prompt is in the log before its verdict is asked for, and the verdict is the answer."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompt_event_pb2 import (
    PromptArchived,
    PromptLabelRolledBack,
    PromptLabelsMoved,
    PromptVersionCreated,
)
from lodestream_proto.v1.prompts_pb2_grpc import (
    PromptServiceServicer,
    PromptServiceStub,
    add_PromptServiceServicer_to_server,
)

from tests.conftest import StartService
from tests.support.gateway import MODULE, Door, new_key, opened, refusal, retry_delay
from tests.support.servers import Servers

Context = grpc.aio.ServicerContext[Any, Any]
CONFLICT, NOT_FOUND, OTHER_TYPE = (
    pb.PROMPT_REFUSAL_CONFLICT,
    pb.PROMPT_REFUSAL_NOT_FOUND,
    pb.PROMPT_REFUSAL_OTHER_TYPE,
)


@dataclass
class Verdicts(PromptServiceServicer):
    """A query service that answers with the verdicts that a test puts into it, and shows what it was asked."""

    by_command: dict[str, pb.GetVerdictResponse] = field(default_factory=dict)
    asked: list[tuple[pb.GetVerdictRequest, float, str]] = field(default_factory=list)

    async def GetVerdict(self, request: pb.GetVerdictRequest, context: Context) -> pb.GetVerdictResponse:  # noqa: N802
        authorization = str(dict(context.invocation_metadata() or ())["authorization"])
        self.asked.append((request, context.time_remaining() or 0.0, authorization))
        if request.command_id not in self.by_command:
            await asyncio.sleep(request.wait_for.timeout_ms / 1000)
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the projection is behind")
        return self.by_command[request.command_id]

    async def LabelHistory(self, request: pb.LabelHistoryRequest, context: Context) -> pb.LabelHistoryResponse:  # noqa: N802
        return pb.LabelHistoryResponse(moves=[pb.LabelMove(label=request.name)])

    def decide(self, **verdict: Any) -> str:
        """The id of a command with this verdict."""
        command_id = str(uuid.uuid4())
        self.by_command[command_id] = pb.GetVerdictResponse(**verdict)
        return command_id


@dataclass(frozen=True, slots=True)
class Stand:
    door: Door
    prompts: Any
    verdicts: Verdicts


@pytest.fixture
async def stand(servers: Servers, database: str, service: StartService) -> AsyncIterator[Stand]:
    query, verdicts = grpc.aio.server(), Verdicts()  # type: ignore[abstract]
    add_PromptServiceServicer_to_server(verdicts, query)
    port = query.add_insecure_port("127.0.0.1:0")
    await query.start()
    key = await new_key(database)
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_QUERY=f"127.0.0.1:{port}")
    async with opened(gateway.address, key, dsn=database, kafka=servers.kafka) as door:
        yield Stand(door, PromptServiceStub(door.channel), verdicts)
    await query.stop(0)


def created(command_id: str = "", **fields: Any) -> pb.CreatePromptRequest:
    return pb.CreatePromptRequest(
        command_id=command_id, prompt=PromptVersionCreated(**{"prompt_name": "greeting", "text": "Hello", **fields})
    )


async def test_the_verdict_is_asked_for_at_the_position_of_the_event(stand: Stand) -> None:
    command_id = stand.verdicts.decide(version=3, revision=7)
    answer = await stand.prompts.CreatePrompt(created(command_id), metadata=stand.door.bearer, timeout=10)
    assert (answer.version, answer.revision) == (3, 7)
    (record,) = await stand.door.at(answer.position)
    assert record.topic == "lodestream.prompts"
    assert record.event is not None
    assert (record.event.event_id, record.event.project_id) == (command_id, "acme")
    assert record.event.prompt_version_created == created().prompt
    ((asked, left, authorization),) = stand.verdicts.asked
    assert (asked.command_id, asked.wait_for.position) == (command_id, answer.position)
    assert 2 < left < 4, "a writer waits for three seconds, not for the whole of its deadline"
    assert authorization == stand.door.bearer[0][1]


async def test_each_command_is_an_event_and_all_of_a_prompt_are_in_one_partition(stand: Stand) -> None:
    command_id, options = stand.verdicts.decide(version=2, revision=9), {"metadata": stand.door.bearer, "timeout": 10}
    move = PromptLabelsMoved(prompt_name="greeting", version=2, labels=["production"], expected_revision=8)
    back = PromptLabelRolledBack(prompt_name="greeting", label="production")
    gone = PromptArchived(prompt_name="greeting", author="ada")
    moved = await stand.prompts.MoveLabels(pb.MoveLabelsRequest(command_id=command_id, move=move), **options)
    request = pb.RollBackLabelRequest(command_id=command_id, roll_back=back)
    rolled_back = await stand.prompts.RollBackLabel(request, **options)
    archived = await stand.prompts.ArchivePrompt(
        pb.ArchivePromptRequest(command_id=command_id, archive=gone), **options
    )
    assert (moved.revision, rolled_back.version, rolled_back.revision, archived.revision) == (9, 2, 9, 9)
    events, partitions = [], set()
    for position in (moved.position, rolled_back.position, archived.position):
        (record,) = await stand.door.at(position)
        assert record.event is not None
        events.append(record.event)
        partitions.add(record.partition)
    assert events[0].prompt_labels_moved == move
    assert events[1].prompt_label_rolled_back == back
    assert events[2].prompt_archived == gone
    assert len(partitions) == 1


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (CONFLICT, grpc.StatusCode.ABORTED),
        (NOT_FOUND, grpc.StatusCode.NOT_FOUND),
        (OTHER_TYPE, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
async def test_what_the_log_refused_is_told_with_its_reason(stand: Stand, refused: Any, code: Any) -> None:
    command_id = stand.verdicts.decide(revision=4, refusal=refused, reason="the reason why")
    call = stand.prompts.CreatePrompt(created(command_id), metadata=stand.door.bearer, timeout=10)
    error = await refusal(call)
    assert (error.code(), error.details()) == (code, "the reason why")


async def test_without_a_verdict_in_time_the_command_id_is_told_and_gives_it_later(stand: Stand) -> None:
    began = time.monotonic()
    error = await refusal(stand.prompts.CreatePrompt(created(), metadata=stand.door.bearer, timeout=10))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert retry_delay(error) >= 1
    assert time.monotonic() - began < 4
    (asked, _, _), *_ = stand.verdicts.asked
    assert f"command {asked.command_id} at {asked.wait_for.position}" in (error.details() or "")
    stand.verdicts.by_command[asked.command_id] = pb.GetVerdictResponse(version=1, revision=1)
    answer = await stand.prompts.CreatePrompt(created(asked.command_id), metadata=stand.door.bearer, timeout=10)
    assert answer.version == 1


async def test_the_answer_comes_within_the_callers_deadline(stand: Stand) -> None:
    error = await refusal(stand.prompts.CreatePrompt(created(), metadata=stand.door.bearer, timeout=1))
    assert error.code() == grpc.StatusCode.UNAVAILABLE, "not DEADLINE_EXCEEDED, which would not tell the id"


async def test_what_cannot_be_taken_is_not_appended(stand: Stand) -> None:
    call = stand.prompts.CreatePrompt(created(labels=["latest"]), metadata=stand.door.bearer, timeout=10)
    error = await refusal(call)
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        'prompt.labels[0]: "latest" moves by itself',
    )
    nobody = await refusal(stand.prompts.CreatePrompt(created(), timeout=10))
    assert nobody.code() == grpc.StatusCode.UNAUTHENTICATED
    assert stand.verdicts.asked == []


async def test_reads_that_no_cache_answers_are_forwarded(stand: Stand) -> None:
    request = pb.LabelHistoryRequest(name="greeting")
    history = await stand.prompts.LabelHistory(request, metadata=stand.door.bearer, timeout=10)
    assert [move.label for move in history.moves] == ["greeting"]
