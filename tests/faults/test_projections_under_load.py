"""Several projections share the work and die, stall and change places while programs write: every span counts once."""

import asyncio
import random
from functools import partial

from tests.faults.under_load import load
from tests.support.polling import until
from tests.torture.nemesis import frozen, torment
from tests.torture.proxy import Proxy
from tests.torture.schedule import ZOMBIE_SECONDS, Strike
from tests.torture.stand import Stand
from tests.torture.tables import read_positions


async def folded(stand: Stand) -> int:
    """How far all partitions together have come."""
    return sum((await read_positions(stand.postgres)).values())


async def test_three_projections_with_random_kills(stand: Stand) -> None:
    rng = random.Random(7)
    moments = [1 + 2.5 * n + rng.random() for n in range(5)]
    strikes = [Strike(at, "kill", f"traces-{rng.randrange(3)}", rng.uniform(0.1, 2)) for at in moments]
    async with load(stand, projections=3):
        await torment(stand, [*strikes, Strike(14.0, "drop", "rows", 0.0)])


async def test_a_zombie_wakes_under_load(stand: Stand) -> None:
    """It sleeps longer than its session with the group, wakes up with batches in hand, and others have folded on."""
    async with load(stand, projections=2):
        before = await folded(stand)
        await until(partial(_moved, stand, before), what="both are at work")
        with frozen(stand.processes["traces-1"]):
            await asyncio.sleep(ZOMBIE_SECONDS)
            asleep = await folded(stand)
            await until(partial(_moved, stand, asleep), deadline=20, what="the other has all partitions")


async def test_a_storm_of_rebalances(stand: Stand) -> None:
    """The group is dealt anew again and again, and the work goes on in between."""
    async with load(stand, projections=2):
        for _ in range(4):
            before = await folded(stand)
            await stand.processes["traces-1"].restart()
            await until(partial(_moved, stand, before), what="the work goes on")


async def test_the_reply_to_a_commit_is_lost(stand: Stand) -> None:
    """The projection can't know whether it committed; the fence does."""
    rows = stand.proxies["rows"]
    async with load(stand):
        for n in range(1, 9):
            rows.lose(b"COMMIT;", reply=n % 2 == 0)
            await until(partial(_lost, rows, n), what="a transaction is lost, or only its reply")


def _lost(rows: Proxy, times: int) -> bool:
    return rows.lost >= times


async def _moved(stand: Stand, before: int) -> bool:
    return await folded(stand) > before
