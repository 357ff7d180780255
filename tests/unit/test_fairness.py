"""Whoever asks for much waits for himself."""

import asyncio
import itertools

import grpc
import pytest

from shared.runtime.fairness import (
    BulkCalls,
    FairLimiter,
    LoopLateness,
    OverloadedError,
    Pacer,
    RecentTenants,
    Turns,
)
from shared.runtime.token_bucket import Buckets
from tests.support.polling import until


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


async def test_the_loop_has_as_long_for_others_as_a_slice_took(monkeypatch: pytest.MonkeyPatch) -> None:
    times, order = itertools.count(step=0.1), list[str]()
    monkeypatch.setattr(
        "shared.runtime.fairness.time.perf_counter", lambda: next(times)
    )  # a slice seems to take 100 ms
    turns = Turns(has_others=lambda tenant: tenant == "a")

    async def compute(tenant: str) -> None:
        async with turns.of(tenant) as turn:
            order.append(f"{tenant} 1")
            await turn.give()
            order.append(f"{tenant} 2")

    async def answer() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        order.append("answered")

    await asyncio.gather(compute("a"), answer())
    await asyncio.gather(compute("b"), answer())
    assert order == ["a 1", "answered", "a 2", "b 1", "b 2", "answered"]


# The pace of calls


class Clock:
    """Time that only a test moves on."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def pacer(clock: Clock, *, per_second: float = 10, burst_seconds: float = 0.5, late_seconds: float = 0) -> Pacer:
    lateness = LoopLateness(late_seconds=late_seconds, hold_seconds=30, clock=clock)
    return Pacer(lateness, per_second=per_second, burst_seconds=burst_seconds, wait_seconds=5, clock=clock)


def test_a_tenant_alone_is_never_slowed_down_and_owes_nothing_for_it() -> None:
    clock = Clock()
    calls = pacer(clock)
    assert [calls.reserve("a") for _ in range(1_000)] == [0.0] * 1_000
    calls.reserve("b")
    waits = [calls.reserve("a") for _ in range(3)]
    assert waits[0] == 0.0
    assert waits == sorted(waits)
    assert waits[-1] <= 0.3


def test_what_is_beyond_the_fair_rate_waits_in_order_and_nobody_else_does() -> None:
    clock = Clock()
    calls = pacer(clock)
    calls.reserve("b")
    waits = [calls.reserve("a") for _ in range(26)]
    assert waits[:6] == [0.0] * 6  # a burst, and the one that leaves a debt
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(2.0, abs=0.03)
    assert calls.reserve("b") == 0.0


def test_in_the_long_run_a_tenant_makes_calls_at_the_fair_rate() -> None:
    clock = Clock()
    calls, made = pacer(clock), 0
    while clock.now < 1_100:
        calls.reserve("b")
        clock.now += calls.reserve("a") or 0.001
        made += 1
    assert made == pytest.approx(100 * 10 + 5, abs=10)


def test_others_count_for_some_seconds_only() -> None:
    clock = Clock()
    calls = pacer(clock)
    calls.reserve("b")
    assert any(calls.reserve("a") for _ in range(10))
    clock.now += 6
    assert not any(calls.reserve("a") for _ in range(100))


def test_a_place_that_would_come_too_late_is_refused_and_not_taken() -> None:
    calls = pacer(Clock())
    calls.reserve("b")
    while calls.reserve("a") < 4.9:
        pass
    for _ in range(3):
        with pytest.raises(OverloadedError) as refused:
            calls.reserve("a")
        assert refused.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.value.retry_seconds == pytest.approx(5, abs=0.2)
    assert calls.reserve("b", within=0.0) == 0.0
    with pytest.raises(OverloadedError):
        calls.reserve("a", within=1.0)


async def test_who_hangs_up_gives_the_place_back() -> None:
    clock = Clock()
    calls = pacer(clock, burst_seconds=0.1)
    await calls.pace("b")
    while not (wait := calls.reserve("a")):
        pass
    waiting = asyncio.create_task(calls.pace("a"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert calls.reserve("a") == pytest.approx(wait + 0.1, abs=0.03)


def test_calls_are_paced_only_while_the_process_is_late() -> None:
    clock = Clock()
    lateness = LoopLateness(late_seconds=0.02, hold_seconds=30, clock=clock)
    calls = Pacer(lateness, per_second=10, burst_seconds=0.5, wait_seconds=5, clock=clock)

    def is_paced() -> bool:
        calls.reserve("b")
        return any(calls.reserve("a") for _ in range(20))

    lateness.observe(0.019)
    assert not is_paced()
    lateness.observe(0.02)
    assert is_paced()
    clock.now += 29
    assert is_paced()
    clock.now += 2
    assert not is_paced()


def test_a_call_that_is_much_work_counts_as_several() -> None:
    clock = Clock()
    lateness = LoopLateness(late_seconds=0.02, hold_seconds=30, clock=clock)
    calls = Pacer(lateness, per_second=10, burst_seconds=0.5, wait_seconds=5, clock=clock)
    calls.tenants.add("b")
    calls.charge("a", 1_000)
    assert calls.reserve("a") == 0, "while the process keeps up, nothing is owed"
    lateness.observe(0.02)
    calls.charge("a", 20)
    assert calls.reserve("a") == pytest.approx(2.0, abs=0.03)
    assert calls.reserve("c") == 0


async def test_a_call_beyond_the_fair_rate_is_counted_by_what_became_of_it() -> None:
    clock, counted = Clock(), list[str]()
    lateness = LoopLateness(late_seconds=0, clock=clock)
    calls = Pacer(lateness, per_second=100, burst_seconds=0.01, wait_seconds=5, count=counted.append, clock=clock)
    await calls.pace("b")
    while not counted:
        await calls.pace("a")
    assert counted == ["waited"]
    with pytest.raises(OverloadedError):
        await calls.pace("a", within=0.0)
    assert counted == ["waited", "refused"]
    assert calls.tenants.has_others("b")


def test_a_loop_that_is_always_late_is_late_from_the_start() -> None:
    assert LoopLateness(late_seconds=0, clock=Clock()).is_late
    assert not LoopLateness(late_seconds=0.01, clock=Clock()).is_late


async def test_a_watched_loop_is_late_when_something_held_it_up() -> None:
    looks, clock = itertools.count(), Clock()

    def read_clock() -> float:
        next(looks)
        return clock()

    lateness = LoopLateness(late_seconds=0.001, clock=read_clock)
    watching = asyncio.create_task(lateness.watch())
    await until(lambda: next(looks) > 20)
    assert not lateness.is_late, "no time has passed"
    clock.now += 1
    await until(lambda: lateness.is_late)
    watching.cancel()


def test_tenants_that_called_lately_are_known_in_bounded_memory() -> None:
    clock = Clock()
    tenants = RecentTenants(seconds=5, clock=clock)
    assert not tenants.has_others("a")
    tenants.add("a")
    assert not tenants.has_others("a")
    assert tenants.has_others("b")
    for number in range(20_000):
        tenants.add(f"many-{number}")
    assert len(tenants) == 10_000
    clock.now += 5
    assert not tenants.has_others("a")


# Heavy calls


def bulk(clock: Clock) -> BulkCalls:
    return BulkCalls(1, fair_share=0.2, wait_seconds=5, clock=clock)


async def test_after_a_heavy_call_comes_a_rest() -> None:
    clock, order = Clock(), list[str]()
    calls, room = bulk(clock), limiter(12, per_tenant=4)
    calls.charge("heavy", 60)

    async def call(number: int) -> None:
        async def made() -> None:
            clock.now += 0.3
            order.append(f"call {number}")

        calls.tenants.add("light")
        await calls.serve("heavy", lambda: room.hold("heavy"), made)
        order.append(f"answer {number}")

    first, second = (asyncio.create_task(call(number)) for number in (1, 2))
    await first
    for _ in range(10):
        await asyncio.sleep(0)
    order.append("rest")
    await second
    assert order == ["call 1", "answer 1", "rest", "call 2", "answer 2"]


def test_the_heaviest_is_beyond_its_share_while_others_call() -> None:
    clock = Clock()
    calls = bulk(clock)
    calls.tenants.add("heavy")
    for _ in range(3):
        calls.charge("heavy", 1)
    assert not calls.is_beyond("heavy")  # it is alone
    calls.tenants.add("light")
    assert calls.is_beyond("heavy")
    assert not calls.is_beyond("light")
    clock.now += 2
    assert calls.is_beyond("heavy")
    clock.now += 4
    calls.tenants.add("light")
    assert not calls.is_beyond("heavy")


def test_whoever_is_slow_because_of_others_is_not_one_of_the_heavy() -> None:
    calls = bulk(Clock())
    calls.tenants.add("light")
    calls.tenants.add("heavy")
    for _ in range(100):
        calls.charge("light", 0.01)
    assert not calls.is_beyond("light")
    for _ in range(40):
        calls.charge("light", 0.4)
        calls.charge("heavy", 1)
    assert calls.is_beyond("heavy")
    assert not calls.is_beyond("light")


async def test_heavy_calls_are_made_one_after_another_and_light_ones_pass_them() -> None:
    clock = Clock()
    calls, room, order = bulk(clock), limiter(12, per_tenant=4), list[str]()

    async def call(tenant: str, seconds: float) -> None:
        async def made() -> None:
            order.append(f"{tenant} begins")
            await asyncio.sleep(0)
            clock.now += seconds / 1_000
            order.append(f"{tenant} ends")

        calls.tenants.add(tenant)
        await calls.serve(tenant, lambda: room.hold(tenant), made)

    calls.charge("heavy", 60)
    calls.tenants.add("light")
    await asyncio.gather(*(call("heavy", 1) for _ in range(8)), *(call("light", 0.01) for _ in range(4)))
    assert order.index("heavy ends") > max(n for n, entry in enumerate(order) if entry == "light begins")
    heavy = [entry for entry in order if entry.startswith("heavy")]
    assert heavy == ["heavy begins", "heavy ends"] * 8


async def test_heavy_calls_that_wait_hold_no_room() -> None:
    calls, room = bulk(Clock()), limiter(4, per_tenant=4)
    calls.charge("heavy", 60)
    calls.tenants.add("light")
    ended = asyncio.Event()

    async def call() -> None:
        calls.tenants.add("light")
        await ended.wait()

    waiting = [asyncio.create_task(calls.serve("heavy", lambda: room.hold("heavy"), call)) for _ in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [room.try_acquire("light") for _ in range(4)] == [True, True, True, False]
    ended.set()
    await asyncio.gather(*waiting)


def test_of_very_many_tenants_the_bucket_used_longest_ago_is_forgotten() -> None:
    buckets = Buckets(rate=1, burst=1, clock=lambda: 0.0)
    for number in range(10_000):
        buckets.of(str(number)).take(10, 0)
    buckets.of("0").take(1, 0)  # used again, and so kept
    buckets.of("one more")
    assert buckets.of("0").wait(0) == 10
    assert buckets.of("2").wait(0) == 9
    assert buckets.of("1").wait(0) == 0
