"""A projection dies while the group deals the partitions anew: what it gave up and what it got are folded by others."""

import asyncio

import pytest

from tests.faults.under_load import load
from tests.torture.stand import Stand


@pytest.mark.parametrize("instant", ["assignment.revoked", "assignment.assigned"])
async def test_a_projection_killed_in_a_rebalance(stand: Stand, instant: str) -> None:
    """Killed when it has given its partitions up, or when it was told its new ones and has not placed them yet."""
    async with load(stand):
        # It joins alone the first time; the second time the group is dealt anew because somebody else comes.
        doomed = await stand.projection("doomed", LODESTREAM_FAILPOINTS=f"{instant}=kill@2")
        coming = asyncio.create_task(stand.projection("traces-1"))
        assert await asyncio.wait_for(doomed.ended(), 30) == -9
        del stand.processes["doomed"]
        await coming
