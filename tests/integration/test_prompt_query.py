"""Prompts as the query service answers: now, as of an instant, in pages, with their history and figures."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.prompt_cache_pb2 import GetPromptHeadsRequest
from lodestream_proto.v1.prompt_cache_pb2_grpc import PromptCacheServiceStub
from lodestream_proto.v1.prompt_event_pb2 import ChatMessage, ChatPrompt, ChatPromptItem
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceStub
from lodestream_proto.v1.query_pb2 import WaitFor

from shared.auth.keys import create_key, create_project
from shared.event_log.topics import PROMPTS
from shared.storage.postgres import SEARCH_PATH
from tests.support.log_access import append, ends
from tests.support.projecting import projecting
from tests.support.prompts import archived, created, identity, moved, rolled_back
from tests.support.read_model import begin_at_the_end
from tests.support.records import record as spans_record
from tests.support.records import span

Code = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Reading:
    """A query service over a projection that runs, and the log."""

    kafka: str
    stub: Any
    cache: Any
    keys: dict[str, str]

    async def tell(self, *events: Event, project: str = "acme") -> WaitFor:
        """Append events; what to wait for."""
        values = []
        for event in events:
            event.project_id = project
            name = getattr(event, str(event.WhichOneof("payload"))).prompt_name
            values.append((crc32(f"{project}/{name}".encode()) % 12, event.SerializeToString()))
        await append(self.kafka, values, topic=PROMPTS)
        told = {partition for partition, _ in values}
        at = await ends(self.kafka, PROMPTS)
        return WaitFor(
            position=",".join(f"{PROMPTS}:{partition}:{at[partition] - 1}" for partition in told), timeout_ms=15_000
        )

    async def ask(self, rpc: str, *, project: str = "acme", **fields: Any) -> Any:
        """The answer of an RPC of PromptService."""
        request = getattr(pb, f"{rpc}Request")(**fields)
        return await getattr(self.stub, rpc)(request, metadata=self.bearer(project), timeout=20)

    async def get(self, name: str = "greet", **fields: Any) -> Any:
        which = {key: fields.pop(key) for key in ("version", "label") if key in fields}
        return (await self.ask("GetPrompt", prompt=pb.PromptSelector(name=name, **which), **fields)).prompt

    async def refusal(self, rpc: str, **fields: Any) -> tuple[Code, str]:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.ask(rpc, **fields)
        return raised.value.code(), str(raised.value.details())

    def bearer(self, project: str = "acme") -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.keys[project]}"),)


@pytest.fixture
async def reading(servers, database, service) -> AsyncIterator[Reading]:
    await begin_at_the_end(servers.kafka, database, "prompts", PROMPTS)
    connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH})
    keys = {}
    for project in ("acme", "other"):
        await create_project(connection, project, project)
        keys[project] = (await create_key(connection, project)).secret_key
    await connection.close()
    environment = {"LODESTREAM_POSTGRES": database, "LODESTREAM_PROMPTS_GROUP": f"test-{uuid.uuid4().hex[:8]}"}
    query = await service("services.read.query", **environment)
    await service("services.projections.prompts", **environment)
    async with grpc.aio.insecure_channel(query.address) as channel:
        cache: Any = PromptCacheServiceStub(channel)
        yield Reading(servers.kafka, PromptServiceStub(channel), cache, keys)


async def test_a_prompt_is_found_by_version_and_by_label(reading: Reading) -> None:
    wait = await reading.tell(
        created(labels=["production"], tags=["x"], author="ada", config_json='{"temperature":0}'),
        created(text="Hello", commit_message="warmer"),
        moved(2, "staging"),
    )
    first = await reading.get(wait_for=wait)
    assert (first.name, first.version, first.text, first.author) == ("greet", 1, "Hi", "ada")
    assert (first.config_json, list(first.tags), list(first.labels), first.revision) == (
        '{"temperature":0}',
        ["x"],
        ["production"],
        3,
    )
    assert (await reading.get(version=2)).labels == ["latest", "staging"]
    assert await reading.get(label="latest") == await reading.get(label="staging") == await reading.get(version=2)
    assert await reading.refusal("GetPrompt", prompt={"name": "greet", "label": "no"}) == (
        Code.NOT_FOUND,
        "this project has no prompt 'greet' with the label 'no'",
    )
    for missing in ({"name": "greet", "version": 3}, {"name": "greets"}):
        assert (await reading.refusal("GetPrompt", prompt=missing))[0] is Code.NOT_FOUND
    for field, wrong in {"prompt.name": {"name": "a|b"}, "prompt.version": {"name": "a", "version": 0}}.items():
        code, why = await reading.refusal("GetPrompt", prompt=wrong)
        assert (code, why.partition(":")[0]) == (Code.INVALID_ARGUMENT, field)


async def test_a_chat_comes_back_as_it_was_told(reading: Reading) -> None:
    chat = ChatPrompt(
        items=[
            ChatPromptItem(message=ChatMessage(role="system", content="Be {{tone}}.")),
            ChatPromptItem(placeholder="history"),
        ]
    )
    wait = await reading.tell(created("folder/ü", chat=chat, labels=["production"]))
    assert (await reading.get("folder/ü", wait_for=wait)).chat == chat
    (summary,) = (await reading.ask("ListPrompts")).prompts
    assert (summary.name, summary.is_chat) == ("folder/ü", True)


async def test_as_of_an_instant_everything_is_as_it_was(reading: Reading) -> None:
    """Each command is told alone, and the read model's own history says when it was decided."""
    steps = [
        created(labels=["production"]),
        created(text="Hello"),
        moved(2, "production"),
        rolled_back("production"),
        moved(0, "production"),
        archived(),
        created(text="Back"),
    ]
    seen, instants = [], []
    for number, step in enumerate(steps):
        step.event_id = identity(number)
        await reading.ask("GetVerdict", command_id=identity(number), wait_for=await reading.tell(step))
        now = Timestamp()
        now.GetCurrentTime()
        instants.append(now)
        seen.append(await outcome(reading))
    assert [found and (found.version, found.revision) for found in seen] == [
        (1, 1), (1, 2), (2, 3), (1, 4), None, None, None,
    ]  # fmt: skip
    for instant, found in zip(instants, seen, strict=True):
        assert await outcome(reading, as_of=instant) == found
    latest = [await outcome(reading, label="latest", as_of=instant) for instant in instants]
    assert [found and found.version for found in latest] == [1, 2, 2, 2, 2, None, 3]
    before = Timestamp(seconds=instants[0].seconds - 60)
    assert await outcome(reading, as_of=before) is None
    assert await outcome(reading, version=2, as_of=instants[0]) is None


async def outcome(reading: Reading, **fields: Any) -> pb.PromptVersion | None:
    try:
        found: pb.PromptVersion = await reading.get(**fields)
    except grpc.aio.AioRpcError as error:
        if error.code() is not Code.NOT_FOUND:
            raise
        return None
    return found


async def test_many_in_one_call_have_an_outcome_each(reading: Reading) -> None:
    wait = await reading.tell(created("a", labels=["production"]), created("b", text="B"), created("b", text="B2"))
    await reading.ask("ListPrompts", wait_for=wait)
    selectors = [
        pb.PromptSelector(name="b", version=1),
        pb.PromptSelector(name="a"),
        pb.PromptSelector(name="b"),
        pb.PromptSelector(name="c"),
        pb.PromptSelector(name="b", label="latest"),
    ]
    outcomes = (await reading.ask("GetPrompts", prompts=selectors)).outcomes
    assert [each.prompt for each in outcomes] == selectors
    assert [(each.found.text, each.revision) for each in outcomes] == [
        ("B", 2), ("Hi", 1), ("", 2), ("", 0), ("B2", 2),
    ]  # fmt: skip
    code, why = await reading.refusal("GetPrompts", prompts=[selectors[0]] * 1_001)
    assert (code, why) == (Code.INVALID_ARGUMENT, "prompts: are 1001; at most 1000 are taken")


async def test_heads_hold_all_that_labels_point_to(reading: Reading) -> None:
    wait = await reading.tell(
        created(text="x" * 200_000, labels=["production"]), created(text="y" * 200_000, labels=["a"]), archived("greet")
    )
    await reading.ask("ListPrompts", wait_for=wait)
    answer = await reading.cache.GetPromptHeads(
        GetPromptHeadsRequest(names=["nobody", "greet"]), metadata=reading.bearer(), timeout=10
    )
    nobody, greet = answer.heads
    assert (nobody.name, nobody.revision) == ("nobody", 0)
    assert (greet.revision, greet.archived, greet.latest_version) == (3, True, 2)
    assert [(holder.label, holder.version) for holder in greet.labels] == [("a", 2), ("latest", 2), ("production", 1)]
    assert [version.version for version in greet.versions] == [1], "production first; the other does not fit"
    other = await reading.cache.GetPromptHeads(
        GetPromptHeadsRequest(names=["greet"]), metadata=reading.bearer("other"), timeout=10
    )
    assert other.heads[0].revision == 0


async def test_lists_are_filtered_and_paged(reading: Reading) -> None:
    wait = await reading.tell(
        created("b", labels=["production"], tags=["x"]),
        created("A/b", tags=["y"]),
        created("c", tags=["x"]),
        created("c", tags=["x", "y"]),
        created("gone", tags=["x"]),
        archived("gone"),
    )

    async def names(**fields: Any) -> list[str]:
        return [each.name for each in (await reading.ask("ListPrompts", **fields)).prompts]

    assert await names(wait_for=wait) == ["A/b", "b", "c"]
    assert await names(label="production") == ["b"]
    assert await names(tag="x") == ["b", "c"]
    assert await names(name_contains="B") == ["A/b", "b"]
    assert await names(with_archived=True, tag="x") == ["b", "c", "gone"]
    assert await names(project="other") == []
    paged, token = [], ""
    while True:
        page = await reading.ask("ListPrompts", page_size=1, page_token=token)
        paged += [each.name for each in page.prompts]
        token = page.next_page_token
        if not token:
            break
    assert paged == ["A/b", "b", "c"]
    assert page.freshness.lag_ms == 0
    (summary,) = (await reading.ask("ListPrompts", tag="y", name_contains="c")).prompts
    assert (summary.latest_version, summary.revision, list(summary.tags)) == (2, 2, ["x", "y"])
    assert [(holder.label, holder.version) for holder in summary.labels] == [("latest", 2)]
    assert (await reading.refusal("ListPrompts", label="\0"))[0] is Code.INVALID_ARGUMENT


async def test_versions_come_newest_first_and_large_ones_in_small_pages(reading: Reading) -> None:
    wait = await reading.tell(*(created(text=f"{n}" * 900_000) for n in range(1, 6)), archived())
    assert (await reading.refusal("ListVersions", name="nobody", wait_for=wait))[0] is Code.NOT_FOUND
    pages, token = [], ""
    while True:
        page = await reading.ask("ListVersions", name="greet", page_token=token)
        pages.append([version.version for version in page.versions])
        token = page.next_page_token
        if not token:
            break
    assert pages == [[5, 4, 3], [2, 1]]
    assert [len(version.text) for version in page.versions] == [900_000, 900_000]


async def test_the_history_of_labels_tells_who_when_from_and_to(reading: Reading) -> None:
    wait = await reading.tell(
        created(labels=["production"], author="ada"),
        created(author="bob"),
        moved(2, "production", "a", author="bob"),
        moved(2, "production", expected_revision=1),
        rolled_back("production", author="eve"),
    )
    history = await reading.ask("LabelHistory", name="greet", wait_for=wait)
    told = [(each.revision, each.label, each.from_version, each.to_version, each.author) for each in history.moves]
    assert told == [
        (4, "production", 2, 1, "eve"),
        (3, "a", 0, 2, "bob"),
        (3, "production", 1, 2, "bob"),
        (2, "latest", 1, 2, "bob"),
        (1, "latest", 0, 1, "ada"),
        (1, "production", 0, 1, "ada"),
    ]
    assert history.moves[0].moved_at.ToMicroseconds() >= history.moves[-1].moved_at.ToMicroseconds() > 0
    paged, token = [], ""
    while True:
        page = await reading.ask("LabelHistory", name="greet", page_size=2, page_token=token)
        paged += list(page.moves)
        token = page.next_page_token
        if not token:
            break
    assert paged == list(history.moves)
    only = await reading.ask("LabelHistory", name="greet", label="a")
    assert [each.to_version for each in only.moves] == [2]
    assert (await reading.refusal("LabelHistory", name="greet", project="other"))[0] is Code.NOT_FOUND


async def test_a_verdict_is_the_first_one_and_says_why_not(reading: Reading) -> None:
    events = [created(), moved(5, "production"), created("b")]
    for number, event in enumerate(events):
        event.event_id = identity(number // 2)
    events[1].event_id = identity(7)
    wait = await reading.tell(*events)
    done = await reading.ask("GetVerdict", command_id=identity(0), wait_for=wait)
    assert (done.version, done.revision, done.refusal, done.reason) == (1, 1, 0, "")
    refused = await reading.ask("GetVerdict", command_id=identity(7), prompt_name="greet")
    assert refused.refusal == pb.PROMPT_REFUSAL_NOT_FOUND
    assert refused.reason == "prompt 'greet' has no version 5"
    for fields in ({"prompt_name": "b"}, {"project": "other"}):
        assert (await reading.refusal("GetVerdict", command_id=identity(7), **fields))[0] is Code.NOT_FOUND
    assert (await reading.refusal("GetVerdict", command_id="x"))[0] is Code.INVALID_ARGUMENT


async def test_commands_are_not_for_the_query_service(reading: Reading) -> None:
    assert (await reading.refusal("ArchivePrompt"))[0] is Code.UNIMPLEMENTED


async def test_figures_of_each_version(reading: Reading, database: str) -> None:
    def generation(number: int, version: int | None, milliseconds: int, **more: Any):
        told = {"lodestream.observation.type": "generation", "lodestream.observation.prompt.name": "greet", **more}
        if version:
            told["lodestream.observation.prompt.version"] = version
        return span(1, number, start_ms=number, end_ms=number + milliseconds, attributes=told)

    usage = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 4, "gen_ai.request.model": "mock-large"}
    async with projecting(database) as projection:
        failed = generation(4, 2, 40)
        failed.status.code = 2
        await projection.fold(
            spans_record(
                [generation(1, 1, 10, **usage), generation(2, 2, 20, **usage), generation(3, 2, 30), failed,
                 generation(5, None, 1), span(1, 6)],
                project="acme",
            )
        )  # fmt: skip
        cost = await projection.pool.fetchval("SELECT max(cost_picos) FROM spans")
    second, first = (await reading.ask("PromptMetrics", name="greet")).versions
    assert (first.version, first.generations, first.errors, first.latency_p50_us) == (1, 1, 0, 10_000)
    assert (second.version, second.generations, second.errors) == (2, 3, 1)
    assert (second.latency_p50_us, second.latency_p95_us) == (30_000, 40_000)
    assert (second.input_tokens_avg, second.output_tokens_avg) == pytest.approx((10 / 3, 4 / 3))
    assert cost > 0
    assert second.cost_usd_total == pytest.approx(cost / 1e12)
    assert second.cost_usd_avg == pytest.approx(cost / 3e12)
    assert second.last_used_at.ToMilliseconds() - second.first_used_at.ToMilliseconds() == 2
    until_third = Timestamp()
    until_third.FromMilliseconds(second.last_used_at.ToMilliseconds() - 1)
    (second, first) = (await reading.ask("PromptMetrics", name="greet", start_before=until_third)).versions
    assert (second.generations, first.generations) == (1, 1)
    assert not (await reading.ask("PromptMetrics", name="greet", project="other")).versions
