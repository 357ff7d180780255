"""Whoever asks for much waits for himself."""

import asyncio

import grpc
import pytest

from shared.runtime.fairness import FairLimiter, OverloadedError, Turns


def limiter(
    capacity: int = 4, *, per_tenant: int = 2, wait_seconds: float = 5.0, max_waiting: int = 100
) -> FairLimiter:
    return FairLimiter(
        "calls", capacity, per_tenant=per_tenant, wait_seconds=wait_seconds, max_waiting=max_waiting
    )  # fmt: skip


async def holds(of: FairLimiter, order: list[str], tenant: str, amount: int = 1) -> None:
    async with of.hold(tenant, amount):
        order.append(tenant)
        await asyncio.sleep(0)


async def test_one_tenant_never_has_more_than_its_share() -> None:
    calls = limiter()
    assert [calls.try_acquire("a") for _ in range(3)] == [True, True, False]
    assert [calls.try_acquire("b") for _ in range(3)] == [True, True, False]
    assert not calls.try_acquire("c")
    calls.release("a")
    assert calls.try_acquire("c")


async def test_those_who_wait_are_served_one_of_each_tenant_in_turn() -> None:
    calls, order = limiter(1, per_tenant=1), list[str]()
    await calls.acquire("z")
    waiting = [asyncio.create_task(holds(calls, order, tenant)) for tenant in "aaaabbc"]
    await asyncio.sleep(0)
    calls.release("z")
    await asyncio.gather(*waiting)
    assert "".join(order) == "abcabaa"


async def test_who_comes_later_does_not_pass_who_waits() -> None:
    calls, order = limiter(1, per_tenant=1), list[str]()
    await calls.acquire("z")
    waiting = asyncio.create_task(holds(calls, order, "a"))
    await asyncio.sleep(0)
    calls.release("z")
    assert not calls.try_acquire("b")
    await waiting
    assert calls.try_acquire("b")


async def test_small_amounts_do_not_keep_a_large_one_waiting_for_ever() -> None:
    memory, order = limiter(10, per_tenant=8), list[str]()
    await memory.acquire("a", 5)
    large = asyncio.create_task(holds(memory, order, "b", 8))
    await asyncio.sleep(0)
    small = asyncio.create_task(holds(memory, order, "c", 1))
    await asyncio.sleep(0)
    assert order == []
    memory.release("a", 5)
    await asyncio.gather(large, small)
    assert order == ["b", "c"]


async def test_more_than_a_share_counts_as_all_of_it() -> None:
    memory = limiter(10, per_tenant=8)
    async with memory.hold("a", 1_000):
        assert not memory.try_acquire("a")
        assert memory.try_acquire("b", 2)


async def test_a_wait_ends_with_a_refusal_that_says_when_to_try_again() -> None:
    calls = limiter(per_tenant=1, wait_seconds=0.001)
    await calls.acquire("a")
    with pytest.raises(OverloadedError, match="too many calls at once") as refused:
        await calls.acquire("a")
    assert refused.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.retry_seconds
    calls.release("a")
    assert calls.try_acquire("a")


async def test_a_queue_that_is_full_refuses_at_once() -> None:
    calls = limiter(per_tenant=1, max_waiting=1)
    await calls.acquire("a")
    waiting = asyncio.create_task(calls.acquire("a"))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="1 of this project wait already"):
        await calls.acquire("a")
    waiting.cancel()


async def test_who_hangs_up_leaves_nothing_behind() -> None:
    calls = limiter(1, per_tenant=1)
    await calls.acquire("a")
    waiting = [asyncio.create_task(calls.acquire("b")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    calls.release("a")
    await waiting[1]
    calls.release("b")
    waiting = [asyncio.create_task(calls.acquire(tenant)) for tenant in "abc"]
    await asyncio.sleep(0)
    waiting[1].cancel()  # was about to be let in, or waits
    calls.release("a")
    await asyncio.wait(waiting[1:2])
    await waiting[2]


async def test_computations_take_turns_by_tenant() -> None:
    turns, order = Turns(slice_seconds=0), list[str]()

    async def compute(tenant: str) -> None:
        turn = turns.of(tenant)
        for _ in range(3):
            await turn.give()
            order.append(tenant)

    await asyncio.gather(*map(compute, "aaab"))
    assert order.index("b") < 4
    assert sorted(order) == sorted("aaab" * 3)
