"""Each broken build is caught, by a finding of the right sort; the unbroken one passes the same schedule."""

import asyncio
from collections.abc import Mapping

import psutil
import pytest

from tests.support.polling import until
from tests.torture.findings import Kind, Report
from tests.torture.log_reader import read_ends
from tests.torture.mutants import MUTANTS
from tests.torture.stand import Stand
from tests.torture.tables import read_positions

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
    await _write(stand, 60)
    await stand.projection(mutant=mutant, LODESTREAM_FAILPOINTS="projection.copied=raise@4")
    return await stand.judged(settle=_SETTLE)


async def a_zombie_wakes_with_a_batch_in_hand(stand: Stand, mutant: str) -> Report:
    """It was handed records over and fell asleep; somebody else folded them, and what came after, and went."""
    await stand.gateway()
    zombie = await stand.projection(
        "zombie",
        mutant=mutant or "unbroken",
        LODESTREAM_FAILPOINTS="projection.handed_over=pause@1,projection.committed=kill@1",
    )
    await _write(stand, 40)
    await until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED, what="it sleeps")
    stand.group += "-next"  # nobody waits for the dead
    other = await stand.projection()
    await _write(stand, 40)
    await until(lambda: _caught_up(stand), deadline=30, what="the other has folded all")
    await other.stop()
    del stand.processes["traces-0"]
    await stand.note_positions()
    zombie.resume()
    if mutant:
        assert await asyncio.wait_for(zombie.ended(), 30) == -9, "it commits, and is killed"
        del stand.processes["zombie"]
    else:
        await until(zombie.command.ready, deadline=30, what="it is well")
    await stand.note_positions()
    return await stand.judged(settle=1 if mutant else _SETTLE)


async def _write(stand: Stand, requests: int) -> None:
    await stand.workload("otlp", requests=requests, rate=500)
    await stand.done("otlp")


async def _caught_up(stand: Stand) -> bool:
    positions = await read_positions(stand.postgres)
    return all(positions.get(partition, 0) == end for partition, end in (await read_ends(stand.kafka)).items())


async def a_projection_is_killed_before_its_commit(stand: Stand, mutant: str) -> Report:
    await stand.gateway()
    await _write(stand, 60)
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


async def nothing_happens_to_read_models(stand: Stand, mutants: Mapping[str, str]) -> Report:
    """Corrections, conflicts, late events and a hostile project are enough; `mutants` by their projections' names."""
    names = ("traces", *_REQUESTS)
    projections = (stand.projection(f"{name}-0", of=name, mutant=mutants.get(name, "")) for name in names)
    await asyncio.gather(stand.gateway(), stand.query(), stand.evaluator(), *projections)
    workloads = (stand.workload(name, requests=requests, rate=500) for name, requests in _REQUESTS.items())
    attacks = stand.workload("hostile", requests=len(_ATTACKS), rate=500, kinds=",".join(_ATTACKS))
    await asyncio.gather(*workloads, attacks)
    for name in (*_REQUESTS, "hostile"):
        await stand.done(name)
    return await stand.judged(settle=6 if mutants else _SETTLE)


_ATTACKS = ("poison_spans", "crafted_tokens", "odd_texts", "newer_events", "clocks_in_the_year_9892", "odd_events")
_REQUESTS = {"scores": 50, "prompts": 100, "experiments": 80}
SCHEDULES = {
    nothing_happens: {
        "merge-by-arrival": Kind.ALTERED,
        "count-again": Kind.DUPLICATED,
        "drop-dead-letters": Kind.LOST,
    },
    a_partition_of_a_batch_fails: {"skip-failed-batches": Kind.LOST},
    a_zombie_wakes_with_a_batch_in_hand: {"no-fence": Kind.OUT_OF_PROMISE},
    a_projection_is_killed_before_its_commit: {"commit-before-write": Kind.LOST},
    a_gateway_is_killed_before_a_reply: {"ack-before-append": Kind.LOST},
    a_program_is_killed_with_a_full_spool: {"forget-before-ack": Kind.LOST},
}
BROKEN_READ_MODELS: Mapping[str, Mapping[str, tuple[Kind, str]]] = {
    "traces": {"halt-for-one-project": (Kind.OUT_OF_PROMISE, "a partition is halted")},
    "scores": {"supersede-by-arrival": (Kind.ALTERED, "scores.scores ")},
    "prompts": {
        "ignore-expected-revision": (Kind.ALTERED, "prompts.prompt_commands "),
        "tell-redis-once": (Kind.OUT_OF_PROMISE, "a head in Redis that is older than Postgres"),
    },
    "experiments": {
        "store-results-again": (Kind.ALTERED, "experiments.experiment_runs "),
        "forget-item-versions": (Kind.LOST, "experiments.dataset_items "),
    },
}
"""By projection its mutants, which are judged in one run: the finding that each must cause, and what that is about."""


def test_every_mutant_has_a_schedule() -> None:
    of_spans = {mutant for its in SCHEDULES.values() for mutant in its}
    assert of_spans | {mutant for its in BROKEN_READ_MODELS.values() for mutant in its} == set(MUTANTS)


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


async def test_unbroken_read_models_keep_every_promise(stand: Stand) -> None:
    report = await nothing_happens_to_read_models(stand, {})
    assert report.clean, "\n".join(report.lines())
    assert all(report.counts[f"events_about_{name}"] for name in _REQUESTS)
    assert report.counts["heads_in_redis"]
    assert report.counts["results_of_workers"]


async def test_broken_read_models_are_caught(stand: Stand) -> None:
    report = await nothing_happens_to_read_models(
        stand, {name: "+".join(its) for name, its in BROKEN_READ_MODELS.items()}
    )
    for mutant, (kind, about) in (item for its in BROKEN_READ_MODELS.values() for item in its.items()):
        findings = [finding for finding in report.findings if finding.kind is kind]
        assert any(about in f"{finding.what} {finding.where}" for finding in findings), (mutant, report.findings)
