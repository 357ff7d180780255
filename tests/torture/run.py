"""One seeded run: everything up, programs writing, the nemesis at work; then peace, and the checker."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.all_in_one.processes import ProcessManager
from tests.torture.checker import PROJECTIONS
from tests.torture.findings import Report
from tests.torture.nemesis import torment
from tests.torture.own_servers import own_servers
from tests.torture.schedule import plan
from tests.torture.stand import Stand, standing
from tests.torture.tally import tell_how_it_goes

_CALM_SECONDS = 2.0  # of writing after the last strike
_SPOOL_BYTES = 4 * 1024 * 1024
_WAYS = {
    "otlp": 20.0, "record": 15.0, "sdk": 5.0, "poison": 0.5, "scores": 6.0, "prompts": 4.0, "experiments": 4.0,
}  # fmt: skip
"""Requests a second."""
_ATTACKS = 0.5


async def run(ground: ProcessManager, *, seconds: float, seed: str, say: Callable[[str], None]) -> Report:
    """Play it and judge it. Everything stays in the ground's folder."""
    say("starting Kafka, Postgres, Valkey, all services, and programs that write: " + ", ".join(_WAYS))
    async with own_servers(ground) as servers, _small_disk(ground.data / "spool", say) as small:
        standing_here = standing(ground, *servers.addresses, servers=servers.processes, log=servers.log)
        async with standing_here as stand:
            await _start(stand, seed)
            targets = [*stand.processes, *stand.proxies, "sessions", *(["spool"] if small else [])]
            targets.remove("poison")  # its producer speaks to Kafka straight, and has no one to try again for it
            strikes = plan(seed, seconds, targets)
            say(f"everything is up; {len(strikes)} strikes in {seconds:.0f} s")
            async with _beside(stand.watch()):
                async with _beside(tell_how_it_goes(stand.folder, stand.postgres, say)):
                    await torment(stand, strikes, say)
                    await asyncio.sleep(_CALM_SECONDS)
                say("peace: programs settle what is under way, an SDK process delivers what killed ones left")
                await _make_peace(stand)
                say("judging: ledgers against the log, the log against the tables, once all is folded")
                return await stand.judged()


async def _start(stand: Stand, seed: str) -> None:
    stand.jumping = True
    await asyncio.gather(
        stand.gateway(),
        stand.query(),
        *(stand.projection(f"traces-{n}") for n in range(3)),
        *(stand.projection(f"{name}-0", of=name) for name in PROJECTIONS if name != "traces"),
        *(stand.evaluator(f"evaluator-{n}") for n in range(2)),
    )
    for way, rate in _WAYS.items():
        await stand.workload(way, seed=seed, rate=rate)
    await stand.workload("hostile", seed=seed, rate=_ATTACKS)


async def _make_peace(stand: Stand) -> None:
    await stand.finish("hostile")
    for way in _WAYS:
        await stand.finish(way)
    await stand.workload("sdk", "drain", drain=True)
    await stand.done("drain")


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _small_disk(folder: Path, say: Callable[[str], None]) -> AsyncIterator[bool]:
    """A disk for the spool that can be filled, where one can be made."""
    folder.mkdir()
    can = os.geteuid() == 0 and shutil.which("mount") is not None
    code = await _command("mount", "-t", "tmpfs", "-o", f"size={_SPOOL_BYTES}", "torture", str(folder)) if can else 1
    if code:
        say("not done: a full disk under the SDK's spool, because no small file system can be mounted here")
    try:
        yield not code
    finally:
        if not code:
            await _command("umount", str(folder))


async def _command(*argv: str) -> int:
    process = await asyncio.create_subprocess_exec(*argv)
    return await process.wait()
