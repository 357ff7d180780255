"""Memory while the server is dead, over a million observed calls: with a spool that is full, and without a disk.

.venv/bin/python -m benchmarks.sdk.memory
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from lodestream import Lodestream, observe

from benchmarks.page import Table

STEPS = 10
ARGUMENT, RESULT = "a" * 1_500, "b" * 800


def main() -> None:
    """Measure as the command line says."""
    arguments = _arguments()
    if arguments.spool:
        _measure(Path(arguments.spool), arguments.calls)
    else:
        print(table(arguments.calls))


def table(calls: int) -> Table:
    """Each spool in a process of its own."""
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for spool in (folder, "/dev/null/nowhere"):
            command = [sys.executable, "-m", "benchmarks.sdk.memory", "--calls", str(calls), "--spool", spool]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            rows.append(json.loads(ran.stdout.splitlines()[-1]))
    return Table(
        f"The server dead, {calls:,} observed calls: resident MiB after each tenth of them",
        ["Spool", *(f"{100 // STEPS * step} %" for step in range(1, STEPS + 1)), "Peak", "Pending", "Dropped, counted"],
        rows,
    )


def _measure(spool: Path, calls: int) -> None:
    """Resident MiB after each tenth of the calls."""
    client = Lodestream(endpoint="127.0.0.1:1", secret_key="sk", spool_dir=spool, spool_max_bytes=64 << 20)
    traced = observe(_work)
    resident: list[float] = []
    for _ in range(STEPS):
        for _ in range(calls // STEPS):
            traced(ARGUMENT)
        gc.collect()
        resident.append(_resident_mib())
    receipt = client.shutdown(1)
    held = sum(path.stat().st_size for path in spool.rglob("seg-*")) >> 20 if spool.exists() else 0
    name = f"on disk, {held} MiB left" if held else "none: in memory"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    told = [f"{peak}", f"{receipt.pending:,}", f"{receipt.dropped:,}"]
    print(json.dumps([name, *(f"{mib:.0f}" for mib in resident), *told]), flush=True)


def _work(_text: str) -> str:
    return RESULT


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sdk.memory", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000, help="[%(default)s]")
    parser.add_argument("--spool", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
