"""`python -m tests.torture --seconds 60 --seed 7`; exit codes as the checker's."""

import argparse
import asyncio
import json
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from services.all_in_one.processes import ProcessManager
from services.all_in_one.reaper import Reaper
from tests.torture.findings import Report
from tests.torture.run import run

_ABOUT = """\
Run the main path (programs, gateway, Kafka, three projections, Postgres), break everything on a seeded schedule, and
let an independent checker say whether what was acknowledged is there, once, as it was sent. docs/proof.md tells how to
read what is printed.
"""
_CODES = """\
exit codes: 0 every promise was kept; 1 some were not (or a process ended by itself); 2 it could not be told.
`make` turns any but 0 into its own 2.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description=_ABOUT, epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=60.0, help="of strikes (60)")
    parser.add_argument("--seed", default="", help="the same seed strikes the same way; by default a random one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    parser.add_argument("--keep", action="store_true", help="keep ledgers, logs and schedule also of a good run")
    asked = parser.parse_args()
    seed = asked.seed or secrets.token_hex(4)
    folder = Path(tempfile.mkdtemp(prefix="lodestream-torture-"))
    _say(f"seed {seed}: {asked.seconds:.0f} s of strikes; ledgers, logs and schedule are in {folder}")
    begin = time.monotonic()
    report = _played(folder, asked.seconds, seed)
    if report is not None:
        for line in report.lines():
            _say(line)
        if asked.json:
            asked.json.write_text(json.dumps({"seed": seed, **report.as_json()}, indent=1), encoding="utf-8")
    _say(f"seed {seed}, {time.monotonic() - begin:.0f} s altogether: {_outcome(report)}")
    if report is not None and report.clean and not asked.keep:
        shutil.rmtree(folder)
    else:
        _say(f"everything is kept in {folder}; to repeat: make torture SECONDS={asked.seconds:.0f} SEED={seed}")
    sys.exit(2 if report is None else 0 if report.clean else 1)


def _played(folder: Path, seconds: float, seed: str) -> Report | None:
    """The verdict; None when there is none, and why is printed."""
    try:
        with Reaper() as reaper:
            return asyncio.run(run(ProcessManager(folder, reaper), seconds=seconds, seed=seed, say=_say))
    except Exception:  # whatever it was, it is no verdict
        traceback.print_exc()
        return None


def _outcome(report: Report | None) -> str:
    if report is None:
        return "CAN'T TELL, see above"
    return "every promise was kept" if report.clean else f"{len(report.findings)} PROMISES BROKEN"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
