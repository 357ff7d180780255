"""What a program under a jumping clock sees."""

import subprocess
import sys
import time
from pathlib import Path

from tests.torture.clock import set_clock

_DAY = 86_400
_PROGRAM = """
import sys
from pathlib import Path
from tests.torture.clock import jump
jump(Path(sys.argv[1]))
import time
from datetime import UTC, datetime
from google.protobuf.timestamp_pb2 import Timestamp
from time import time as kept
for line in sys.stdin:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    print(time.time(), time.time_ns() / 1e9, datetime.now(UTC).timestamp(), stamp.seconds, kept(), time.monotonic())
    sys.stdout.flush()
"""


def test_the_time_of_day_jumps_and_no_other_clock_does(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    set_clock(file, 0)
    argv = [sys.executable, "-c", _PROGRAM, str(file)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for wrong in (0, 2 * _DAY, -2 * _DAY, 0):
            set_clock(file, wrong)
            program.stdin.write("?\n")
            program.stdin.flush()
            *days, monotonic = map(float, program.stdout.readline().split())
            assert len(days) == 5
            assert all(abs(time.time() + wrong - seen) < 60 for seen in days), (wrong, days)
            assert abs(time.monotonic() - monotonic) < 60
        program.stdin.close()
