"""Judges one run: `python -m tests.torture.checker FOLDER`. Exit codes: 0 all kept, 1 promises broken, 2 can't tell.

The folder holds scene.json (where Kafka and Postgres are, and the offsets at which the run began), the ledgers, and,
if somebody watched, positions.jsonl and deaths.jsonl.
"""

import argparse
import asyncio
import json
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.torture.findings import Finding, Kind, Report
from tests.torture.judge_log import judge_log, unsure
from tests.torture.judge_tables import judge_tables, judge_watched
from tests.torture.ledger import Sent, read_ledgers
from tests.torture.log_reader import Log, read_ends, read_log
from tests.torture.tables import Model, read_model, read_positions


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a run took place."""

    kafka: str
    postgres: str
    projects: list[str]
    begin: Mapping[int, int]
    """The offset of each partition at which the run began."""

    def write(self, folder: Path) -> None:
        """For the checker, which is another process."""
        document = {"kafka": self.kafka, "postgres": self.postgres, "projects": self.projects, "begin": self.begin}
        (folder / "scene.json").write_text(json.dumps(document), encoding="utf-8")


def read_scene(folder: Path) -> Scene:
    """From its file."""
    found = json.loads((folder / "scene.json").read_text(encoding="utf-8"))
    begin = {int(partition): offset for partition, offset in found["begin"].items()}
    return Scene(found["kafka"], found["postgres"], found["projects"], begin)


async def check(folder: Path, *, settle: float) -> Report:
    """Wait until all that is in the log is folded, at most `settle` seconds, then judge."""
    scene, history = read_scene(folder), read_ledgers(folder)
    waited = await _settled(scene, settle)
    log = await read_log(scene.kafka, scene.begin)
    model = await read_model(scene.postgres, scene.projects)
    report = judge(history, log, model, scene.begin)
    report.findings += judge_watched(_lines(folder / "positions.jsonl"))
    report.findings += [
        Finding(Kind.OUT_OF_PROMISE, "a process ended by itself", f"{death['name']}: {death['words']}")
        for death in _lines(folder / "deaths.jsonl")
    ]
    report.counts["settled_after_ms"] = int(1000 * waited)
    return report


def judge(history: list[Sent], log: Log, model: Model, begin: Mapping[int, int]) -> Report:
    """Every promise, held against what is there."""
    report = Report([*judge_log(history, log), *judge_tables(log, model, begin)])
    tellings = dict.fromkeys(("acked", "spooled", "refused", "unknown"), 0)
    for sent in history:
        tellings[sent.verdict] += len(sent.told)
    report.counts = {
        "requests": len(history),
        "attempts": sum(sent.attempts for sent in history),
        **{f"tellings_{verdict}": count for verdict, count in tellings.items()},
        **unsure(history, log),
        "records": len(log.records),
        "rows": len(model.spans),
        "traces": len(model.traces),
        "dead_letters": len(model.letters),
    }
    return report


async def _settled(scene: Scene, settle: float) -> float:
    begin = time.monotonic()
    while True:
        ends, positions = await read_ends(scene.kafka), await read_positions(scene.postgres)
        waited = time.monotonic() - begin
        behind = [n for n, end in ends.items() if positions.get(n, 0) < end and end > scene.begin.get(n, 0)]
        if not behind or waited > settle:
            return waited
        await asyncio.sleep(0.2)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.checker")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settle", type=float, default=60.0, help="seconds for the projection to catch up")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    asked = parser.parse_args()
    try:
        report = asyncio.run(check(asked.folder, settle=asked.settle))
    except Exception:  # also a fault of the checker's own must not be taken for a verdict
        traceback.print_exc()
        sys.exit(2)
    if asked.json:
        asked.json.write_text(json.dumps(report.as_json(), indent=1), encoding="utf-8")
    conclusion = "every promise was kept" if report.clean else f"{len(report.findings)} promises were broken"
    sys.stdout.write("\n".join([*report.lines(), conclusion]) + "\n")
    sys.exit(0 if report.clean else 1)


if __name__ == "__main__":
    main()
