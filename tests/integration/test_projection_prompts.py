"""Commands of the log become one history of each prompt: in any batching, redelivered, replayed."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.prompt_event_pb2 import ChatMessage, ChatPrompt, ChatPromptItem
from lodestream_proto.v1.prompts_pb2 import PROMPT_REFUSAL_CONFLICT, PROMPT_REFUSAL_NOT_FOUND, PromptVersion

from tests.support.projecting import batches
from tests.support.prompts import (
    Deciding,
    again,
    archived,
    created,
    deciding,
    identity,
    moved,
    record,
    records,
    rolled_back,
)
from tests.support.records import event, span

VERDICTS = "SELECT kind, version, revision, refusal FROM prompt_commands ORDER BY decided_at"
HOLDERS = "SELECT label, version FROM prompt_labels WHERE version > 0 AND name = $1 ORDER BY label"


@pytest.fixture
async def projection(database) -> AsyncIterator[Deciding]:
    async with deciding(database) as projection:
        yield projection


async def test_a_batch_of_commands_becomes_verdicts_versions_labels_and_history(projection) -> None:
    await projection.fold(
        *records(
            created(labels=["production"], tags=["x"], author="ada", config_json='{"temperature": 0}'),
            created(text="Hello", commit_message="warmer"),
            moved(2, "production", author="bob", expected_revision=2),
            moved(1, "production", expected_revision=2),
            rolled_back("production"),
            moved(9, "production"),
            archived(author="eve"),
        )
    )
    assert await projection.rows(VERDICTS) == [
        ("prompt_version_created", 1, 1, 0),
        ("prompt_version_created", 2, 2, 0),
        ("prompt_labels_moved", 2, 3, 0),
        ("prompt_labels_moved", 0, 3, PROMPT_REFUSAL_CONFLICT),
        ("prompt_label_rolled_back", 1, 4, 0),
        ("prompt_labels_moved", 0, 4, PROMPT_REFUSAL_NOT_FOUND),
        ("prompt_archived", 0, 5, 0),
    ]
    assert await projection.rows("SELECT is_chat, latest_version, revision, archived FROM prompts") == [
        (False, 2, 5, True)
    ]
    assert await projection.rows(HOLDERS, "greet") == [("latest", 2), ("production", 1)]
    moves = "SELECT revision, label, from_version, to_version, author FROM prompt_label_moves ORDER BY revision, label"
    assert await projection.rows(moves) == [
        (1, "latest", 0, 1, "ada"),
        (1, "production", 0, 1, "ada"),
        (2, "latest", 1, 2, ""),
        (3, "production", 1, 2, "bob"),
        (4, "production", 2, 1, ""),
    ]
    ((body,), _) = await projection.rows("SELECT body FROM prompt_versions ORDER BY version")
    version = PromptVersion.FromString(body)
    assert (version.text, version.author, version.config_json) == ("Hi", "ada", '{"temperature": 0}')
    assert (list(version.labels), version.revision) == ([], 0), "what changes is not in it"
    assert await projection.rows("SELECT name, revision FROM prompt_outbox") == [("greet", 5)]


async def test_a_command_told_again_keeps_its_verdict_and_changes_nothing(projection) -> None:
    first = created(labels=["production"])
    await projection.fold(*records(first, created(), again(moved(1, "staging"), first.event_id), first))
    before = await projection.dump()
    assert len(before["prompt_commands"]) == 2
    await projection.fold(record(first, 4), record(first, 5))
    assert await projection.dump() == before


async def test_a_command_belongs_to_its_prompt(projection) -> None:
    """The order of two prompts is nobody's, so neither can take the other's id."""
    await projection.fold(*records(again(created("a"), identity(1)), again(created("b"), identity(1))))
    assert await projection.rows("SELECT name, revision FROM prompts ORDER BY name") == [("a", 1), ("b", 1)]


async def test_projects_have_nothing_in_common(projection) -> None:
    event = created(labels=["production"])
    await projection.fold(record(event, 0), record(event, 1, project="q"), record(moved(0, "production"), 2))
    labels = "SELECT project_id FROM prompt_labels WHERE label = 'production' AND version > 0"
    assert await projection.rows(labels) == [("q",)]


def story(choose: random.Random, count: int) -> list[Event]:
    """Commands about a few prompts, with refused ones and repeated ones among them."""
    told: list[Event] = []
    labels = ["production", "staging", "a"]
    for n in range(count):
        name = choose.choice(["a", "b", "folder/ü"])
        expected = choose.choice([{}, {}, {"expected_revision": choose.randint(0, 9)}])
        chat = ChatPrompt(items=[ChatPromptItem(message=ChatMessage(role="user", content="?"))])
        asked = choose.choice(
            [
                created(name, f"text {n}", labels=choose.sample(labels, choose.randint(0, 2))),
                created(name, chat=chat),
                moved(choose.randint(0, 3), *choose.sample(labels, 2), name=name, **expected),
                moved(choose.randint(0, 3), choose.choice(labels), name=name),
                rolled_back(choose.choice(labels), name, **expected),
                *([archived(name)] if choose.random() < 0.2 else []),
                *([choose.choice(told)] * 2 if told else []),
            ]
        )
        told.append(asked if asked in told else again(asked, identity(n + 1)))
    return told


@pytest.mark.parametrize("seed", range(6))
async def test_a_replay_gives_the_same_tables_in_any_batching(projection, seed: int) -> None:
    choose = random.Random(seed)
    told = records(*story(choose, 80))
    await projection.fold(*told)
    expected = await projection.dump()
    assert len(expected["prompt_label_moves"]) > 10
    for _ in range(4):
        await projection.empty()
        for batch in batches(told, [choose.randint(1, 9) for _ in range(5)]):
            await projection.fold(*batch)
            if choose.random() < 0.5:
                await projection.fold(*batch)
        assert await projection.dump() == expected
    assert await projection.rows("SELECT count(*) FROM dead_letters") == [(0,)]


async def test_prompts_on_several_partitions_do_not_depend_on_the_order_of_these(projection) -> None:
    choose = random.Random(1)
    told = [
        record(each, offset, partition=partition, project=f"p{partition}")
        for partition in range(3)
        for offset, each in enumerate(story(choose, 20))
    ]
    await projection.fold(*told)
    expected = await projection.dump()
    await projection.empty()
    shuffled = [list(batch) for batch in batches(told, [4])]
    turns = sorted(shuffled, key=lambda batch: batch[0].offset)
    for batch in turns:
        await projection.fold(*batch)
    assert await projection.dump() == expected


async def test_two_processes_that_both_believe_to_own_the_partition(database) -> None:
    told = records(*story(random.Random(3), 60))

    async def own(seed: int) -> None:
        choose = random.Random(seed)
        async with deciding(database) as me:
            position = 0
            while position < len(told):
                rows = await me.rows("SELECT next_offset FROM projection_positions")
                position = min(position, rows[0][0] if rows else 0)
                size = choose.randint(1, 9)
                await me.fold(*told[position : position + size])
                position += size

    await asyncio.gather(*(own(seed) for seed in range(3)))
    async with deciding(database) as after:
        raced = await after.dump()
        await after.empty()
        await after.fold(*told)
        assert await after.dump() == raced


async def test_what_the_gateway_would_refuse_is_set_aside(projection) -> None:
    bad = {
        "prompt_labels_moved.prompt_name": moved(1, "a", name="x|y"),
        "prompt_version_created.prompt_name": created("/x"),
        "prompt_version_created.config_json": created(config_json="{"),
        "prompt_labels_moved.labels[0]": moved(1, "Production"),
        "latest": moved(1, "latest"),
        "command_id": again(created(), "no uuid"),
        "the payload is spans_recorded": event([span(1, 1)]),
        "the payload is of an unknown kind": Event(event_id=identity(1)),
        "NUL": created(text="a\0b"),
    }
    told = records(*bad.values(), created())
    await projection.fold(*told, record(created("other"), len(told), project="p\0"))
    letters = await projection.rows('SELECT reason, raw, project_id FROM dead_letters ORDER BY "offset"')
    assert len(letters) == len(bad) + 1
    for (reason, raw, project), why, its in zip(letters, bad, told, strict=False):
        assert why in reason
        assert (raw, project) == (its.raw, "p")
    assert await projection.rows("SELECT name, revision FROM prompts") == [("greet", 1)]


async def test_what_the_database_refuses_costs_only_itself(projection) -> None:
    await projection.pool.execute("ALTER TABLE prompt_versions ADD CONSTRAINT no_poison CHECK (tags <> '{poison}')")
    events = [created(tags=["poison"] if n == 3 else []) for n in range(8)]
    await projection.fold(*records(*events))
    assert await projection.rows("SELECT latest_version, revision FROM prompts") == [(7, 7)]
    ((offset, reason),) = await projection.rows('SELECT "offset", reason FROM dead_letters')
    assert offset == 3
    assert "no_poison" in reason
