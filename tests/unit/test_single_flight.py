"""Who wants the same at the same time shares one call."""

import asyncio

from shared.runtime.single_flight import SingleFlight


async def test_who_asks_for_the_same_meanwhile_shares_the_look_up_and_may_hang_up() -> None:
    flights: SingleFlight[int] = SingleFlight()
    begun, may_land = 0, asyncio.Event()

    async def look_up() -> int:
        nonlocal begun
        begun += 1
        await may_land.wait()
        return begun

    async def ask() -> int:
        return await flights.run("key", look_up)

    asking = [asyncio.create_task(ask()) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    may_land.set()
    assert await asyncio.gather(*asking[1:]) == [1, 1, 1, 1]
    assert await ask() == 2


async def test_a_look_up_that_fails_fails_for_all_who_wait_and_for_nobody_else() -> None:
    flights: SingleFlight[int] = SingleFlight()

    async def fail() -> int:
        raise LookupError("away")

    outcomes = await asyncio.gather(*(flights.run("key", fail) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LookupError] * 3

    async def succeed() -> int:
        return 1

    assert await flights.run("key", succeed) == 1
