"""Lodestream on one machine: `python -m services.all_in_one`."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from services.all_in_one import status
from services.all_in_one.data_dir import STATUS, InUseError, UnusableError, lock_folder, stop_leftovers
from services.all_in_one.jars import JarError
from services.all_in_one.processes import ProcessManager, StartFailedError
from services.all_in_one.reaper import Reaper, kill_group
from services.all_in_one.services import SERVICES, Service
from services.all_in_one.stack import RunningStack, running_stack
from services.all_in_one.supervise import Supervised, keep_running

_SCRIPT_GRACE_SECONDS = 5.0
console = Console(stderr=True, highlight=False, markup=False)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line."""

    data_dir: Path
    ephemeral: bool
    services: Sequence[Service]
    scripts: Sequence[Path]
    leave: bool


def main() -> None:
    """Run until asked to stop.

    Exit codes: 0 asked to stop, 1 something did not start or the script failed, 2 the command line is wrong.
    """
    options = _parse(sys.argv[1:])
    os.umask(0o077)  # data, logs and passwords are ours alone
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a Kafka that does not answer is reported by ourselves
    try:
        with _process_manager(options) as manager:
            code = asyncio.run(_run(manager, options))
    except (StartFailedError, InUseError, UnusableError, JarError, OSError) as failure:
        console.print(f"error: {failure}", style="red", soft_wrap=True)
        code = 1
    except KeyboardInterrupt:  # before the loop could listen for it
        code = 0
    sys.exit(code)


def _parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m services.all_in_one",
        description="Starts Kafka, Postgres, Valkey and every service as processes on this machine; Ctrl-C stops them.",
        epilog="LODESTREAM_KAFKA, LODESTREAM_POSTGRES and LODESTREAM_REDIS replace the server they name.",
    )
    parser.add_argument("--data-dir", type=Path, default=Path(".lodestream"), help="default: .lodestream")
    parser.add_argument("--ephemeral", action="store_true", help="keep nothing: a temporary folder instead")
    parser.add_argument("--servers-only", action="store_true", help="no services: run yours by hand")
    parser.add_argument(
        "--run", type=Path, metavar="SCRIPT", action="append", default=[],
        help="a Python program to run once all is up; several: one after the other, while they succeed",
    )  # fmt: skip
    parser.add_argument("--exit", action="store_true", help="stop when the script has ended, or when all is up")
    parsed = parser.parse_args(arguments)
    for script in parsed.run:
        if not script.is_file():
            parser.error(f"--run: there is no file {script}")
    return Options(
        parsed.data_dir.absolute(), parsed.ephemeral, () if parsed.servers_only else SERVICES, parsed.run, parsed.exit
    )


@contextlib.contextmanager
def _process_manager(options: Options) -> Iterator[ProcessManager]:
    if options.ephemeral:
        folder = Path(tempfile.mkdtemp(prefix="lodestream-"))
        with Reaper(remove=folder) as reaper:
            yield ProcessManager(folder, reaper)
        return
    with lock_folder(options.data_dir) as lock, Reaper(hold=lock) as reaper:
        for name in stop_leftovers(options.data_dir):
            _say(f"stopped {name}, which a killed run had left")
        yield ProcessManager(options.data_dir, reaper)


async def _run(manager: ProcessManager, options: Options) -> int:
    _listen_for_signals()
    _say(f"data and logs are in {manager.data}")
    try:
        async with running_stack(manager, services=options.services, say=_say) as running:
            return await _while_up(manager, options, running)
    except asyncio.CancelledError:
        return 0
    finally:
        (manager.data / STATUS).unlink(missing_ok=True)
        _say("all is stopped")


def _listen_for_signals() -> None:
    """Stop all in order at the first signal; leave at once at the second, when the reaper stops what is left."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop() -> None:
        _say("stopping")
        task.cancel()
        for number in numbers:
            loop.add_signal_handler(number, os._exit, 1)

    for number in numbers:
        loop.add_signal_handler(number, stop)


async def _while_up(manager: ProcessManager, options: Options, running: RunningStack) -> int:
    supervised = [Supervised(process) for process in running.processes]

    def changed(one: Supervised) -> None:
        reason = f"; {one.reason}" if one.state.startswith("down") else ""
        _say(f"{one.process.command.name}: {one.state}{reason}")
        status.write(manager.data, status.entries(supervised), running.environment)

    async with asyncio.TaskGroup() as group:
        background = [group.create_task(keep_running(one, changed)) for one in supervised]
        background.append(group.create_task(status.keep_writing(manager.data, supervised, running.environment)))
        if options.scripts or options.leave or not console.is_terminal:
            console.print(status.table(status.entries(supervised)))
        for name, value in running.client_environment.items():
            console.print(f"export {name}={value}", soft_wrap=True)
        code = 0
        for script in options.scripts:
            code = await _run_script(script, {**os.environ, **running.environment}, manager.reaper)
            _say(f"{script} ended with exit code {code}")
            if code:
                break
        if not options.leave:
            await _stay(supervised)
        for task in background:
            task.cancel()
    return code


async def _run_script(script: Path, environment: Mapping[str, str], reaper: Reaper) -> int:
    """Run a Python program to its end and return its exit code (minus the signal). It ends with us."""
    child = await asyncio.create_subprocess_exec(sys.executable, script, env=dict(environment), start_new_session=True)
    reaper.watch(child.pid, signal.SIGTERM, _SCRIPT_GRACE_SECONDS)
    try:
        return await child.wait()
    finally:
        if child.returncode is None:
            child.terminate()
            await asyncio.wait([asyncio.ensure_future(child.wait())], timeout=_SCRIPT_GRACE_SECONDS)
        kill_group(child.pid)
        await child.wait()
        reaper.forget(child.pid)


async def _stay(supervised: Sequence[Supervised]) -> None:
    _say("Ctrl-C stops all")
    if console.is_terminal:
        with Live(
            console=console, get_renderable=lambda: status.table(status.entries(supervised)), refresh_per_second=1
        ):
            await asyncio.Event().wait()
    await asyncio.Event().wait()


def _say(text: str) -> None:
    console.print(f"» {text}", soft_wrap=True)


if __name__ == "__main__":
    main()
