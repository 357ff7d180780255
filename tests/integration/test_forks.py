"""Services of tests start as forks of a process that has their libraries: what differs from `python -m` there."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from services.all_in_one.probes import Probe
from services.all_in_one.processes import Command, Process, ProcessManager, StartFailedError
from tests.support.forked import ForkedProcess, ForkingManager, forking
from tests.support.polling import until

_SCRIPT = "fork_probe"


@pytest.fixture
async def forks(ground: ProcessManager, tmp_path: Path) -> ForkingManager:
    if isinstance(ground, ForkingManager):
        return ForkingManager(tmp_path, ground.reaper, ground.forks)
    pytest.fail("LODESTREAM_TEST_STARTS=exec: nothing forks")


async def _at_once() -> bool:
    return True


async def _never() -> bool:
    return False


def _process(forks: ForkingManager, program: str, *, ready: Probe = _at_once, **environment: str) -> Process:
    folder = forks.data / "logs"
    folder.mkdir(exist_ok=True)
    (folder / f"{_SCRIPT}.py").write_text(program, encoding="utf-8")
    python = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    argv = (sys.executable, "-m", _SCRIPT, "a", "b c")
    command = Command(name="probe", argv=argv, ready=ready, environment={**python, **environment})
    process = forks.process(command)
    assert isinstance(process, ForkedProcess)
    return process


async def test_a_fork_has_its_arguments_and_environment_and_nothing_of_ours(forks: ForkingManager) -> None:
    process = _process(
        forks,
        "import os, sys\n"
        "ours = [name for name in sys.modules if name.partition('.')[0] in {'services', 'shared', 'lodestream'}]\n"
        "print(__name__, sys.argv[1:], os.environ['ONE'], 'PATH' in os.environ, ours, os.getsid(0) == os.getpid())\n"
        "sys.exit('the end')\n",
        ONE="1",
    )
    await process.start()
    assert await process.ended() == 1
    assert process.output() == "__main__ ['a', 'b c'] 1 False [] True\nthe end\n"


async def test_a_fork_that_is_killed_ends_with_the_signal_and_starts_again(forks: ForkingManager) -> None:
    process = _process(forks, "import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    for _ in range(2):
        await process.start()
        await until(lambda: "up" in process.output())
        process.kill()
        assert await process.ended() == -signal.SIGKILL
        assert process.pid is None


async def test_a_fork_that_fails_says_why(forks: ForkingManager) -> None:
    process = _process(forks, "raise ValueError('no such thing')\n", ready=_never)
    with pytest.raises(StartFailedError, match=r"exit code 1(.|\n)*ValueError: no such thing"):
        await process.start()


async def test_whoever_waits_at_the_gate_ends_with_the_fork_server(ground: ProcessManager, tmp_path: Path) -> None:
    async with forking(ProcessManager(tmp_path, ground.reaper)) as own:
        waiting = _process(own, "print('up')\n")
        child = await own.forks.start(waiting.command, {}, waiting.log)
    await until(lambda: _has_ended(child.pid))
    assert not waiting.log.read_text()


def _has_ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
