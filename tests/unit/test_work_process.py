"""Work in processes of their own: its answers, its errors, its end."""

import asyncio
import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from services.read.query.work_process import WorkProcesses
from shared.runtime.refusal import InvalidError, RefusedError
from tests.support.polling import until


@pytest.fixture
def processes() -> Iterator[WorkProcesses]:
    opened = WorkProcesses(2)
    yield opened
    opened.close()


async def process_id() -> bytes:
    return str(os.getpid()).encode()


async def niceness() -> bytes:
    return str(os.nice(0)).encode()


async def refuse(field: str) -> bytes:
    raise InvalidError(field, "can't be used")


async def sleep_after_writing_its_id(path: str) -> bytes:
    with open(path, "w", encoding="utf-8") as file:  # noqa: ASYNC230, PTH123 - nothing else runs there
        file.write(str(os.getpid()))
    await asyncio.sleep(600)
    return b""


async def be_killed() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


async def test_a_process_stays_for_the_next_piece_of_work(processes: WorkProcesses) -> None:
    first = await processes.run(process_id)
    assert await processes.run(process_id) == first != str(os.getpid()).encode()


async def test_work_has_a_lower_priority_than_the_service(processes: WorkProcesses) -> None:
    assert int(await processes.run(niceness)) > os.nice(0)


async def test_a_refusal_comes_as_it_was_raised(processes: WorkProcesses) -> None:
    with pytest.raises(InvalidError, match=r"^run_ids\[0\]: can't be used$") as caught:
        await processes.run(refuse, "run_ids[0]")
    assert (caught.value.field, caught.value.reason) == ("run_ids[0]", "run_ids[0]: can't be used")


async def test_a_process_that_was_ended_costs_one_answer(processes: WorkProcesses) -> None:
    with pytest.raises(RefusedError, match="the process that computes the answer was ended"):
        await processes.run(be_killed)
    assert await processes.run(process_id)


async def test_an_idle_process_that_was_ended_costs_nothing(processes: WorkProcesses) -> None:
    killed = int(await processes.run(process_id))
    os.kill(killed, signal.SIGKILL)
    await until(lambda: psutil.Process(killed).status() == psutil.STATUS_ZOMBIE, what="it has ended")
    assert await processes.run(process_id) != str(killed).encode()


@pytest.mark.parametrize("end", ["cancel", "close"])
async def test_work_that_nobody_waits_for_is_ended(processes: WorkProcesses, tmp_path, end: str) -> None:
    written = tmp_path / "pid"
    waiting = asyncio.create_task(processes.run(sleep_after_writing_its_id, str(written)))
    await until(lambda: written.exists() and written.read_text(), what="it works")
    worker = psutil.Process(int(written.read_text()))
    if end == "cancel":
        waiting.cancel()
    else:
        processes.close()
    await until(
        lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, what="its process has ended"
    )
    with pytest.raises(asyncio.CancelledError if end == "cancel" else RefusedError):
        await waiting
