"""The server is away for long: programs go on, keep what they tell within bounds, and deliver it when it is back."""

import asyncio
import os

import psutil
import pytest

from services.all_in_one.processes import Process
from tests.support.polling import until
from tests.torture.stand import Stand

SECONDS = float(os.environ.get("SECONDS", "12"))
"""`make test ARGS=tests/faults/test_server_away.py SECONDS=300` is a longer absence."""
_MIB = 1024 * 1024


@pytest.mark.timeout(SECONDS + 180)
async def test_the_server_is_away_for_minutes_and_back(stand: Stand) -> None:
    gateway = await stand.gateway()
    await stand.projection()
    sdk = await stand.workload("sdk", rate=20)
    await asyncio.gather(*(stand.workload(way, rate=20) for way in ("otlp", "record")))
    await until(lambda: _verdicts(stand, "acked") > 20, what="programs write")
    gateway.kill()
    await gateway.ended()
    before = _memory(sdk)
    await asyncio.sleep(SECONDS)
    assert _verdicts(stand, "spooled", way="sdk") > 0.2 * SECONDS, "the SDK goes on and keeps what it is told"
    assert _memory(sdk) - before < 40 * _MIB
    await gateway.start()
    acked = _verdicts(stand, "acked", way="sdk")
    await until(lambda: _verdicts(stand, "acked", way="sdk") > acked, deadline=20, what="the SDK delivers again")
    for way in ("sdk", "otlp", "record"):
        await stand.finish(way)
    await stand.workload("sdk", "drain", drain=True)
    await stand.done("drain")
    report = await stand.judged()
    assert report.clean, "\n".join(report.lines())
    assert report.counts["tellings_spooled"] > 0, report.counts


def _verdicts(stand: Stand, verdict: str, *, way: str = "*") -> int:
    return sum(path.read_text().count(f'"{verdict}"') for path in stand.folder.glob(f"{way}-*.ledger"))


def _memory(process: Process) -> int:
    return int(psutil.Process(process.pid).memory_info().rss)
