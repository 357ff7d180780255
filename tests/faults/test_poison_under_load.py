"""Records that nobody can read, among good ones, while programs write."""

from tests.faults.under_load import load
from tests.torture.stand import Stand


async def test_poisoned_records_become_dead_letters_and_cost_nobody_else(stand: Stand) -> None:
    """Each is set aside once and whole, no good span with it, and no partition stops."""
    async with load(stand):
        await stand.workload("poison", requests=30, rate=20)
        await stand.done("poison")
