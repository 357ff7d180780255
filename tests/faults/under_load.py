"""Programs that write while things break, and the judgement over what they wrote."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.torture.stand import Stand

_CALM_SECONDS = 1.0


@asynccontextmanager
async def load(stand: Stand, *, projections: int = 1, rate: float = 25.0) -> AsyncIterator[None]:
    """A gateway, projections, and two programs that write throughout the block and a moment longer.

    Fails unless every promise was kept.
    """
    await asyncio.gather(stand.gateway(), *(stand.projection(f"traces-{n}") for n in range(projections)))
    await asyncio.gather(*(stand.workload(way, rate=rate) for way in ("otlp", "record")))
    watching = asyncio.create_task(stand.watch())
    try:
        yield
        await asyncio.sleep(_CALM_SECONDS)
        for way in ("otlp", "record"):
            await stand.finish(way)
        report = await stand.judged()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert report.clean, "\n".join(report.lines())
    assert report.counts["tellings_acked"] > 100, report.counts
