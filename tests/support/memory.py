"""How much memory a process has, in bytes."""

import re
from pathlib import Path

from services.all_in_one.processes import Process

MIB = 1024 * 1024


def resident(process: Process) -> int:
    """What it has now."""
    return _status(process, "VmRSS")


def peak(process: Process) -> int:
    """The most that it has ever had."""
    return _status(process, "VmHWM")


def _status(process: Process, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024
