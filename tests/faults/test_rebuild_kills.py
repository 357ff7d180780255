"""A rebuild is killed again and again while spans are written: it goes on, and comes to what the live one is."""

import asyncio
import os
import random
import signal
from uuid import uuid4

import pytest

from tests.support import rebuilding
from tests.support.log_access import append
from tests.support.polling import until
from tests.support.read_model import TRACES_PROJECTION
from tests.support.rebuilding import caught_up, dump, fetch, story

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def environment(own_log: str, database: str) -> dict[str, str]:
    return {
        "LODESTREAM_KAFKA": own_log,
        "LODESTREAM_POSTGRES": database,
        "LODESTREAM_TRACES_GROUP": f"test-{uuid4().hex[:8]}",
    }


async def folded(database: str) -> int:
    """How far the rebuild has come, in records."""
    query = "SELECT coalesce(sum(next_offset), 0)::bigint FROM projection_positions WHERE projection = 'traces@rebuild'"
    return int((await fetch(database, query))[0][0])


@pytest.mark.parametrize("seed", [1])
async def test_killed_at_random_points_under_load_it_goes_on(
    service, own_log: str, database: str, environment, seed: int
) -> None:
    choose = random.Random(seed)
    await append(own_log, story(10_000 * seed, 200))
    await service(TRACES_PROJECTION, **environment)
    await until(lambda: caught_up(own_log, database), deadline=60)
    reached, killed = 0, 0
    async with rebuilding.writing(own_log, 10_000 * seed + 200):
        while killed < 3:
            process = await rebuilding.start(["rebuild", "--processes", "2"], **environment)
            wanted = reached + choose.randrange(1, 80)
            while process.returncode is None and await folded(database) < wanted:
                await asyncio.sleep(0.01)
            if process.returncode is not None:
                break
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
            await process.communicate()
            assert await folded(database) >= reached, "what was folded stays folded"
            reached = await folded(database)
        ran = await rebuilding.run("rebuild", **environment)
    assert killed >= 2
    assert ran.code == 0, (ran.events[-3:], ran.err)
    await until(lambda: caught_up(own_log, database), deadline=30)
    after = await rebuilding.run("rebuild", "--no-swap", **environment)
    assert (after.code, after.told("compared")["same"]) == (0, True)
    assert await dump(database) == await dump(database, "traces_rebuild")


@pytest.mark.parametrize("failpoint", ["rebuild.committed=kill@2", "rebuild.indexing=kill", "rebuild.swapping=kill"])
async def test_killed_at_its_worst_instants_it_goes_on(
    service, own_log: str, database: str, environment, failpoint: str
) -> None:
    await append(own_log, story(0, 30))
    await service(TRACES_PROJECTION, **environment)
    await until(lambda: caught_up(own_log, database), deadline=60)
    told = await dump(database)
    doomed = await rebuilding.run("rebuild", **environment, LODESTREAM_FAILPOINTS=failpoint)
    assert doomed.code in (-9, 1), "itself, or a process that it had started"
    assert await dump(database) == told
    ran = await rebuilding.run("rebuild", **environment)
    assert (ran.code, ran.told("begun")["resumed"]) == (0, True)
    assert await dump(database) == told == await dump(database, "traces_before")
