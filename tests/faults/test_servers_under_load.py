"""Kafka and Postgres freeze, die and come back while programs write: what was acknowledged is there, once."""

import asyncio

import pytest

from tests.faults.under_load import load
from tests.torture.nemesis import torment
from tests.torture.schedule import Strike
from tests.torture.stand import Stand


@pytest.mark.parametrize("how", ["freeze", "kill"])
async def test_kafka_is_away_for_20_seconds_under_load(own_stand: Stand, how: str) -> None:
    async with load(own_stand):
        await torment(own_stand, [Strike(2.0, how, "kafka", 20.0)])


async def test_postgres_is_restarted_gently_and_hard_under_load(own_stand: Stand) -> None:
    async with load(own_stand, projections=2):
        strikes = [Strike(2.0, "restart", "postgres", 0.0), Strike(6.0, "kill", "postgres", 2.0)]
        await torment(own_stand, [*strikes, Strike(12.0, "terminate", "sessions", 0.0)])


async def test_postgres_freezes_under_the_projection(own_stand: Stand) -> None:
    """Transactions hang in the middle; the gateway goes on acknowledging, because the log is the truth."""
    async with load(own_stand, projections=2):
        acked = _acked(own_stand)
        freezing = asyncio.create_task(torment(own_stand, [Strike(1.0, "freeze", "postgres", 10.0)]))
        await asyncio.sleep(4)
        asleep = _acked(own_stand)
        await asyncio.sleep(4)
        assert acked < asleep < _acked(own_stand), "writes are acknowledged all the while"
        await freezing


def _acked(stand: Stand) -> int:
    return sum(path.read_text().count('"acked"') for path in stand.folder.glob("*.ledger"))
