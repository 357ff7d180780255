"""`python -m tests.torture --seconds 60 --seed 7`; exit codes as the checker's."""

import argparse
import asyncio
import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from services.all_in_one.keeper import Keeper
from services.all_in_one.processes import Ground
from tests.torture.run import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("--seconds", type=float, default=60.0, help="of strikes")
    parser.add_argument("--seed", default="", help="the same seed strikes the same way; by default a random one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    asked = parser.parse_args()
    seed = asked.seed or secrets.token_hex(4)
    folder = Path(tempfile.mkdtemp(prefix="lodestream-torture-"))
    _say(f"seed {seed}, {asked.seconds:.0f} s; ledgers, logs and schedule are in {folder}")
    with Keeper() as keeper:
        report = asyncio.run(run(Ground(folder, keeper), seconds=asked.seconds, seed=seed, say=_say))
    for line in report.lines():
        _say(line)
    if asked.json:
        asked.json.write_text(json.dumps({"seed": seed, **report.as_json()}, indent=1), encoding="utf-8")
    if report.clean:
        shutil.rmtree(folder)
    else:
        _say(f"seed {seed} again: make torture SECONDS={asked.seconds:.0f} SEED={seed}; what happened is in {folder}")
    sys.exit(0 if report.clean else 1)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
