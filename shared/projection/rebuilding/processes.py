"""Several processes that fold parts of the log. They end with whoever started them, however that ends."""

import asyncio
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

import orjson

from shared.projection.rebuilding.replay import Told


class ProcessDiedError(Exception):
    """One of the processes did not end well; the others were stopped."""


async def fold_in_processes(
    command: Sequence[str], left: Mapping[int, tuple[int, int]], processes: int, told: Told
) -> None:
    """Run `command --to PARTITION:OFFSET,…` for shares of the partitions (`left`: records to fold, and up to where).

    Raises ProcessDiedError.
    """
    async with asyncio.TaskGroup() as group:
        for share in shares({partition: records for partition, (records, _) in left.items()}, processes):
            to = ",".join(f"{partition}:{left[partition][1]}" for partition in share)
            group.create_task(_run([*command, "--to", to], told))


def shares(records: Mapping[int, int], processes: int) -> list[list[int]]:
    """Partitions for each process, so that each has about as many records; the largest partitions first."""
    found: list[list[int]] = [[] for _ in range(processes)]
    held = [0] * processes
    for partition in sorted(records, key=lambda partition: (-records[partition], partition)):
        least = held.index(min(held))
        found[least].append(partition)
        held[least] += records[partition]
    return [share for share in found if share]


async def _run(command: Sequence[str], told: Told) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            records, items = orjson.loads(line)
            told(records, items)
        if code := await process.wait():
            raise ProcessDiedError(f"a process that folds ended with {code}")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def report(records: int, items: int) -> None:
    """What such a process tells with each commit."""
    sys.stdout.buffer.write(orjson.dumps((records, items)) + b"\n")
    sys.stdout.buffer.flush()


def end_with_starter() -> None:
    """From now on this process dies when its standard input ends: also a killed starter closes that."""

    def wait() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock, held here, would break the interpreter's end
            pass
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()
