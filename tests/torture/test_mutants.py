"""Each broken build is caught, by a finding of the right sort; the unbroken one passes the same schedule."""

import asyncio

import pytest

from tests.torture.findings import Kind, Report
from tests.torture.mutants import MUTANTS
from tests.torture.stand import Stand

_SETTLE = 20.0


async def nothing_happens(stand: Stand, mutant: str) -> Report:
    """Late ends, corrections, duplicates and poison are enough."""
    await stand.gateway()
    await stand.projection(mutant=mutant)
    await asyncio.gather(
        stand.workload("otlp", requests=150, rate=500), stand.workload("record", requests=80, rate=500)
    )
    await stand.workload("poison", requests=4, rate=50)
    for way in ("otlp", "record", "poison"):
        await stand.done(way)
    return await stand.judged(settle=_SETTLE)


async def a_partition_of_a_batch_fails(stand: Stand, mutant: str) -> Report:
    """Its batch comes again whole, with those partitions that were folded."""
    await stand.gateway()
    await stand.workload("otlp", requests=60, rate=500)
    await stand.done("otlp")
    await stand.projection(mutant=mutant, LODESTREAM_FAILPOINTS="projection.copied=raise@4")
    return await stand.judged(settle=_SETTLE)


async def a_committed_batch_comes_again(stand: Stand, mutant: str) -> Report:
    """What is folded once must not be folded again, and what comes after it must be."""
    await stand.gateway()
    await stand.projection(mutant=mutant, LODESTREAM_FAILPOINTS="projection.committed=raise@1")
    for name in ("first", "second"):
        await stand.workload("otlp", name, requests=60, rate=500)
        await stand.done(name)
    # A build that never gets on is as broken as one that loses, and there is no use in waiting for it.
    return await stand.judged(settle=5 if mutant else _SETTLE)


async def a_projection_is_killed_before_its_commit(stand: Stand, mutant: str) -> Report:
    await stand.gateway()
    await stand.workload("otlp", requests=60, rate=500)
    await stand.done("otlp")
    doomed = await stand.projection("doomed", mutant=mutant, LODESTREAM_FAILPOINTS="projection.copied=kill@3")
    assert await asyncio.wait_for(doomed.ended(), 30) == -9
    del stand.processes["doomed"]
    stand.group += "-next"  # nobody waits for the dead
    await stand.projection(mutant=mutant)
    return await stand.judged(settle=_SETTLE)


async def a_gateway_is_killed_before_a_reply(stand: Stand, mutant: str) -> Report:
    """The log has what it was about to acknowledge, and what it acknowledged before."""
    doomed = await stand.gateway("doomed", mutant=mutant, LODESTREAM_FAILPOINTS="gateway.acked=kill@20")
    await stand.workload("otlp", requests=60, rate=500)
    assert await asyncio.wait_for(doomed.ended(), 30) == -9
    del stand.processes["doomed"]
    await stand.gateway(mutant=mutant)
    await stand.projection()
    await stand.done("otlp")
    return await stand.judged(settle=_SETTLE)


async def a_program_is_killed_with_a_full_spool(stand: Stand, mutant: str) -> Report:
    """Nobody answers at the gateway's port while it observes; the next program finds what it left."""
    await stand.gateway()
    await stand.projection()
    stand.proxies["client"].cut()
    program = await stand.workload("sdk", mutant=mutant, requests=4, rate=50)
    await asyncio.wait_for(_spooled(stand, 4), 60)
    program.kill()
    await program.ended()
    del stand.processes["sdk"]
    stand.proxies["client"].heal()
    await stand.workload("sdk", "drain", drain=True)
    await stand.done("drain")
    return await stand.judged(settle=_SETTLE)


async def _spooled(stand: Stand, requests: int) -> None:
    while sum(path.read_text().count('"learn"') for path in stand.folder.glob("sdk-*.ledger")) < requests:
        await asyncio.sleep(0.05)


SCHEDULES = {
    nothing_happens: {
        "merge-by-arrival": Kind.ALTERED,
        "count-again": Kind.DUPLICATED,
        "drop-dead-letters": Kind.LOST,
    },
    a_partition_of_a_batch_fails: {"skip-failed-batches": Kind.LOST},
    a_committed_batch_comes_again: {"no-fence": Kind.LOST},
    a_projection_is_killed_before_its_commit: {"commit-before-write": Kind.LOST},
    a_gateway_is_killed_before_a_reply: {"ack-before-append": Kind.LOST},
    a_program_is_killed_with_a_full_spool: {"forget-before-ack": Kind.LOST},
}


def test_every_mutant_has_a_schedule() -> None:
    assert {mutant for its in SCHEDULES.values() for mutant in its} == set(MUTANTS)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.__name__)
async def test_the_unbroken_build_keeps_every_promise(stand: Stand, schedule) -> None:
    report = await schedule(stand, "")
    assert report.clean, "\n".join(report.lines())
    assert report.counts["tellings_acked"] + report.counts["tellings_spooled"] > 0


@pytest.mark.parametrize(
    ("schedule", "mutant", "kind"),
    [(schedule, mutant, kind) for schedule, its in SCHEDULES.items() for mutant, kind in its.items()],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_mutant_is_caught(stand: Stand, schedule, mutant: str, kind: Kind) -> None:
    report = await schedule(stand, mutant)
    assert kind in report.kinds, "\n".join(report.lines())
