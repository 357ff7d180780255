"""The whole of it, shortly: `make torture` does the same for longer and with other seeds."""

import tempfile
from pathlib import Path

import pytest

from services.all_in_one.processes import ProcessManager
from tests.torture.run import run


@pytest.mark.timeout(240)
async def test_a_seeded_run_keeps_every_promise(ground: ProcessManager) -> None:
    own = ProcessManager(Path(tempfile.mkdtemp(dir=ground.data, prefix="torture-")), ground.reaper)
    report = await run(own, seconds=25, seed="2783", say=print)
    assert report.clean, "\n".join(report.lines())
    assert report.counts["tellings_acked"] > 500
