"""A program under a wall clock that jumps: `python -m tests.torture.clock FILE -- MODULE …`.

FILE holds one double, the seconds by which the clock is wrong, and may change at any moment. What Python code asks for
the time of day jumps; monotonic clocks do not, as they do not when somebody sets a machine's clock. What the kernel and
gRPC's C core ask is left alone.
"""

import datetime as dt
import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

_DOUBLE = struct.Struct("d")


def set_clock(file: Path, seconds: float) -> None:
    """By how much the clock is wrong from now on; makes the file if need be."""
    if not file.exists():
        file.write_bytes(_DOUBLE.pack(seconds))
        return
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), _DOUBLE.size) as shared:
        _DOUBLE.pack_into(shared, 0, seconds)


def jump(file: Path) -> None:
    """Let this process believe the file's clock. Before anything is imported that keeps `time.time` for itself."""
    with file.open("rb") as opened:
        shared = mmap.mmap(opened.fileno(), _DOUBLE.size, access=mmap.ACCESS_READ)
    true_time, true_time_ns = time.time, time.time_ns

    def wrong() -> float:
        return float(_DOUBLE.unpack_from(shared)[0])

    class Datetime(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "Datetime":
            return cls.fromtimestamp(time.time(), tz)

    time.time = lambda: true_time() + wrong()
    time.time_ns = lambda: true_time_ns() + int(wrong() * 1e9)
    dt.datetime = Datetime  # type: ignore[misc]


def main() -> None:
    file, separator, module, *arguments = sys.argv[1:]
    assert separator == "--", __doc__
    jump(Path(file))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
