"""Programs that use the SDK are killed at any moment: what they were promised is delivered by the next one."""

import asyncio
import random

from tests.support.polling import until
from tests.torture.stand import Stand
from tests.torture.tally import Tally


async def test_programs_killed_at_random_points_lose_nothing_they_were_promised(stand: Stand) -> None:
    rng, tally = random.Random(7), Tally(stand.folder)
    await stand.gateway()
    await stand.projection()
    for life in range(8):
        if life == 4:
            stand.proxies["client"].half_open()
        program = await stand.workload("sdk", seed=life, rate=50)
        await asyncio.sleep(rng.uniform(0.4, 2.0))
        if life == 5:
            await until(lambda: tally.look()["spooled"], deadline=30, what="something that only the spool has")
        program.kill()
        await program.ended()
        del stand.processes["sdk"]
        if life == 5:
            stand.proxies["client"].heal()
    await stand.workload("sdk", "drain", drain=True)
    await stand.done("drain")
    report = await stand.judged()
    assert report.clean, "\n".join(report.lines())
    assert report.counts["tellings_acked"] > 20, report.counts
    assert report.counts["tellings_spooled"] > 0, report.counts
