"""What the processes of a stack use: CPU seconds, memory, and how busy and how fast the whole machine is."""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds since the beginning, of a process by its role, and of the machine."""

    by_role: Mapping[str, float]
    busy: float
    total: float

    def since(self, earlier: "Used") -> "Used":
        """What was used between two looks."""
        return Used(
            {role: used - earlier.by_role.get(role, 0.0) for role, used in self.by_role.items()},
            self.busy - earlier.busy,
            self.total - earlier.total,
        )


def used(pids: Mapping[str, Sequence[int]]) -> Used:
    """CPU seconds of processes with their children, those that have ended too, by role."""
    times = psutil.cpu_times()
    total = sum(times)
    return Used(
        {role: sum(_seconds(psutil.Process(pid)) for pid in its) for role, its in pids.items()},
        total - times.idle - times.iowait,
        total,
    )


def memory(pids: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Resident bytes, what processes of one role share counted once."""
    return {
        role: sum(_memory(each) for pid in its for each in _family(psutil.Process(pid))) for role, its in pids.items()
    }


def busy_with_others(seconds: float = 2.0) -> float:
    """The share of the machine that is busy now, before anything of ours runs."""
    return psutil.cpu_percent(seconds) / 100


def yardstick(seconds: float = 1.0) -> float:
    """How fast the machine is now, to compare days by: milliseconds of CPU, the median, of always the same work."""
    document = {f"key {n}": [{"text": f"value {n} {m}", "number": n * m} for m in range(20)] for n in range(50)}
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.process_time()
        json.loads(json.dumps(document))
        took.append(time.process_time() - begin)
    return 1e3 * statistics.median(took)


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _seconds(process: psutil.Process) -> float:
    itself = process.cpu_times()
    ended = float(itself.children_user + itself.children_system)
    alive = 0.0
    for each in _family(process):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:  # counted at the next look, among those that have ended
            continue
        alive += times.user + times.system
    return alive + ended


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return int(getattr(full, "pss", full.uss))
