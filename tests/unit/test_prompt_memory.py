"""What a gateway remembers of prompts is bounded, true for some seconds, and never goes back."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1.prompts_pb2 import GetPromptResponse, PromptSelector, PromptVersion

from services.write.gateway.prompts.batch_loader import BatchLoader
from services.write.gateway.prompts.head_cache import FRESH_SECONDS, STALE_SECONDS, Head, HeadCache
from tests.support.polling import until

KEY = ("acme", "greeting")


def head(revision: int, *, text: str = "Hello", number: int = 1) -> Head:
    version = PromptVersion(name="greeting", version=number, text=text)
    return Head(revision, {"production": number, "latest": number}, number, {number: version})


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> HeadCache:
    found = HeadCache(1_000_000, clock=clock)
    clock.now += 1
    return found


def test_a_head_makes_room_for_versions_by_those_that_came_first() -> None:
    found = Head(1, {}, 9, {n: PromptVersion(version=n, text="x" * 1_000_000) for n in range(1, 4)})
    found.make_room(1_000_000)
    assert list(found.versions) == [1, 2, 3]
    found.response(1)
    found.make_room(2_000_000)
    assert (list(found.versions), list(found.responses)) == ([2, 3], [])
    found.make_room(100_000_000)
    assert not found.versions


def test_a_head_is_answered_from_for_some_seconds_and_as_a_stale_one_for_a_minute(memory, clock) -> None:
    kept = memory.keep(KEY, head(1), since=clock())
    assert memory.fresh(KEY) is kept
    clock.now += FRESH_SECONDS + 0.1
    assert memory.fresh(KEY) is None
    assert memory.stale(KEY) is kept
    clock.now += STALE_SECONDS
    assert memory.stale(KEY) is None


def test_a_look_that_finds_the_same_makes_it_fresh_again(memory, clock) -> None:
    kept = memory.keep(KEY, head(1), since=clock())
    clock.now += FRESH_SECONDS + 0.1
    assert memory.keep(KEY, head(1), since=clock()) is kept
    assert memory.fresh(KEY) is kept


def test_what_was_told_makes_what_is_older_no_longer_fresh(memory, clock) -> None:
    memory.keep(KEY, head(1), since=clock())
    memory.raise_floor(KEY, 2)
    assert memory.fresh(KEY) is None
    memory.keep(KEY, head(2), since=clock())
    assert memory.fresh(KEY).revision == 2


def test_nothing_is_fresh_that_was_looked_up_before_changes_may_have_been_missed(memory, clock) -> None:
    began = clock()
    clock.now += 1
    memory.doubt_all()
    memory.keep(KEY, head(1), since=began)
    assert memory.fresh(KEY) is None
    clock.now += 0.001
    memory.keep(KEY, head(1), since=clock())
    assert memory.fresh(KEY)


def test_the_least_recently_used_goes_when_there_is_no_room_and_its_revision_stays_known(clock) -> None:
    memory = HeadCache(3 * 22_000, clock=clock)
    clock.now += 1
    for n in range(3):
        memory.keep(("acme", str(n)), head(7, text="x" * 10_000), since=clock())
    memory.fresh(("acme", "0"))
    memory.keep(("acme", "3"), head(7, text="x" * 10_000), since=clock())
    remembered = [n for n in range(4) if memory.fresh(("acme", str(n)))]
    assert remembered == [0, 2, 3]
    assert memory.floor(("acme", "1")) == 7
    assert memory.bytes <= 3 * 22_000


def test_a_head_larger_than_all_the_room_is_not_kept(clock) -> None:
    memory = HeadCache(1_000, clock=clock)
    memory.keep(KEY, head(1, text="x" * 10_000), since=clock())
    assert memory.stale(KEY) is None
    assert memory.bytes == 0


def test_versions_are_kept_when_the_head_moves_on(memory, clock) -> None:
    memory.keep(KEY, head(1, number=1), since=clock())
    moved = memory.keep(KEY, head(2, number=2), since=clock())
    assert sorted(moved.versions) == [1, 2]
    moved.versions[3] = PromptVersion(text="x" * 1000)
    before = memory.bytes
    memory.grew(KEY)
    assert memory.bytes >= before + 2_000


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.integers(0, 400)), max_size=60))
def test_revisions_never_go_back_and_bytes_add_up(changes: list[tuple[str, int, int]]) -> None:
    memory, seen = HeadCache(8_000), dict[str, int]()
    for name, revision, size in changes:
        key = ("acme", name)
        if revision < memory.floor(key):
            continue
        kept = memory.keep(key, head(revision, text="x" * size), since=1.0)
        assert kept.revision >= seen.get(name, 0)
        seen[name] = kept.revision
        assert 0 <= memory.bytes <= 8_000
    assert memory.bytes == sum(found.size for found in memory._heads.values())


def test_a_head_says_which_version_is_meant_and_answers_with_its_labels() -> None:
    versions = {n: PromptVersion(name="greeting", version=n, text=str(n)) for n in (1, 2)}
    found = Head(9, {"production": 1, "stable": 1, "latest": 2}, 2, versions)
    assert found.number_of(PromptSelector(name="greeting")) == 1
    assert found.number_of(PromptSelector(name="greeting", label="latest")) == 2
    assert found.number_of(PromptSelector(name="greeting", label="nobody")) == 0
    assert found.number_of(PromptSelector(name="greeting", version=2)) == 2
    assert found.number_of(PromptSelector(name="greeting", version=3)) == 0
    answer = GetPromptResponse.FromString(found.response(1)).prompt
    assert (answer.text, list(answer.labels), answer.revision) == ("1", ["production", "stable"], 9)
    assert not versions[1].labels, "a version is the same whatever points to it"
    gone = found.outcome(PromptSelector(name="greeting", label="nobody"))
    assert not gone.HasField("found")
    assert gone.revision == 9


async def test_what_is_wanted_in_the_same_turn_is_loaded_together_and_fails_alone() -> None:
    loaded: list[list[int]] = []

    async def look_up(asked: Sequence[int]) -> list[int]:
        loaded.append(list(asked))
        await asyncio.sleep(0)
        if 13 in asked:
            raise LookupError("away")
        return [10 * each for each in asked]

    loader = BatchLoader(look_up, batch_size=4, concurrency=2)
    assert await asyncio.gather(*(loader.load(n) for n in range(6))) == [0, 10, 20, 30, 40, 50]
    assert loaded == [[0, 1, 2, 3], [4, 5]]
    outcomes = await asyncio.gather(*(loader.load(n) for n in range(12, 20)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LookupError] * 4 + [int] * 4
    hung_up = asyncio.create_task(loader.load(1))
    stays = asyncio.create_task(loader.load(2))
    await asyncio.sleep(0)
    hung_up.cancel()
    assert await stays == 20
    await until(lambda: loader.is_idle)
