"""What runs, as one table for people and one file, `status.json` in the data folder, for programs."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import psutil
from rich.table import Column, Table

from services.all_in_one.data_dir import STATUS
from services.all_in_one.supervise import Supervised

_EVERY = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Entry:
    """One process at one moment; `pid`, `created_at` (seconds since 1970) and `memory_bytes` are None when down."""

    name: str
    address: str
    pid: int | None
    created_at: float | None
    state: str
    memory_bytes: int | None
    restarts: int
    reason: str
    log: str


def entries(supervised: Sequence[Supervised]) -> list[Entry]:
    """Return the state of every process now."""
    return [_entry(one) for one in supervised]


def table(rows: Sequence[Entry]) -> Table:
    """Return the entries as a table for people."""
    shown = Table("process", Column("address", overflow="fold"), "pid", "state", Column("memory", justify="right"))
    for row in rows:
        memory = f"{row.memory_bytes / 1024**2:.0f} MB" if row.memory_bytes is not None else ""
        state = row.state + (f", restarted {row.restarts}x" if row.restarts else "")
        shown.add_row(row.name, row.address, str(row.pid or ""), state, memory)
    return shown


def write(folder: Path, rows: Sequence[Entry], environment: Mapping[str, str]) -> None:
    """Write the file, which is replaced whole: a reader never sees half of one.

    `environment` is what a program needs to use the stack.
    """
    content = {
        "pid": os.getpid(),
        "written_at": datetime.now(UTC).isoformat(),
        "environment": environment,
        "processes": [asdict(row) for row in rows],
    }
    new = folder / f"{STATUS}.new"
    new.touch(mode=0o600)  # the environment holds a key
    new.write_text(json.dumps(content, indent=2), encoding="utf-8")
    new.replace(folder / STATUS)


async def keep_writing(folder: Path, supervised: Sequence[Supervised], environment: Mapping[str, str]) -> NoReturn:
    """Write the file again and again."""
    while True:
        write(folder, entries(supervised), environment)
        await asyncio.sleep(_EVERY)


def _entry(one: Supervised) -> Entry:
    process = one.process
    created_at, memory = _measure(process.pid) if process.pid else (None, None)
    return Entry(
        name=process.command.name,
        address=process.command.public_address,
        pid=process.pid,
        created_at=created_at,
        state=one.state,
        memory_bytes=memory,
        restarts=one.restarts,
        reason=one.reason,
        log=str(process.log),
    )


def _measure(pid: int) -> tuple[float | None, int | None]:
    """Return when a process was created, and the memory of it and its children, what they share counted once."""
    try:
        process = psutil.Process(pid)
        return process.create_time(), sum(_memory(each) for each in [process, *process.children(recursive=True)])
    except psutil.Error:
        return None, None


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.uss))
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
