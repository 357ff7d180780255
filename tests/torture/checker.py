"""Judges one run: `python -m tests.torture.checker FOLDER`. Exit codes: 0 all kept, 1 promises broken, 2 can't tell.

The folder holds scene.json (where Kafka, Postgres and Redis are, and the offsets at which the run began), the ledgers,
and, if somebody watched, positions.jsonl, memory.jsonl and deaths.jsonl.
"""

import argparse
import asyncio
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg

from tests.torture.contract import EXPERIMENTS, PROMPTS, SCORES
from tests.torture.experiments_model import expected_experiments, read_experiments
from tests.torture.findings import Finding, Kind, Report
from tests.torture.judge_events import judge_events
from tests.torture.judge_log import judge_log, unsure
from tests.torture.judge_models import Projected, judge_projected
from tests.torture.judge_runs import Workers, judge_runs, told_by_workers
from tests.torture.judge_tables import judge_positions, judge_tables, judge_watched
from tests.torture.ledger import Objection, Sent, read_ledgers, read_objections
from tests.torture.log_reader import TOPIC, Log, read_ends, read_events, read_log
from tests.torture.prompts_model import expected_prompts, judge_heads, judge_verdicts, read_heads, read_prompts
from tests.torture.scores_model import expected_scores, read_scores
from tests.torture.tables import Model, read_model, read_positions, read_progress

PROJECTIONS = {"traces": TOPIC, "scores": SCORES, "prompts": PROMPTS, "experiments": EXPERIMENTS}
"""Each with the topic that it folds."""
MEMORY_MIB = {
    "gateway": 512, "query": 1024, "traces": 768, "scores": 512, "prompts": 512, "experiments": 512, "evaluator": 2048,
}  # fmt: skip
"""What a process of each service may have, its children included: the limits of docs/operations.md."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a run took place."""

    kafka: str
    postgres: str
    projects: list[str]
    begin: Mapping[str, Mapping[int, int]]
    """By topic: the offset of each partition at which the run began."""
    redis: str = ""
    hostile: list[str] = field(default_factory=list)
    """Projects that mean harm: of what they send only its effect on others is judged."""

    def write(self, folder: Path) -> None:
        """For the checker, which is another process."""
        (folder / "scene.json").write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_scene(folder: Path) -> Scene:
    """From its file."""
    found = json.loads((folder / "scene.json").read_text(encoding="utf-8"))
    begin = {
        topic: {int(partition): offset for partition, offset in offsets.items()}
        for topic, offsets in found["begin"].items()
    }
    return Scene(**found | {"begin": begin})


async def check(folder: Path, *, settle: float) -> Report:
    """Wait until all that is in the log is folded, at most `settle` seconds, then judge."""
    scene, history = read_scene(folder), read_ledgers(folder)
    waited = await _settled(scene, settle)
    log = await read_log(scene.kafka, scene.begin[TOPIC])
    model = await read_model(scene.postgres, scene.projects)
    connection = await asyncpg.connect(scene.postgres, timeout=10)
    try:
        models = await _projected(scene, connection)
        heads = await read_heads(connection, scene.redis, models["prompts"].expected)
    finally:
        await connection.close()
    runs, prompts = models["experiments"], models["prompts"].expected
    workers = told_by_workers(runs.log.events, models["scores"].log.events, runs.expected)
    report = judge(history, log, model, scene.begin[TOPIC], workers=workers, hostile=scene.hostile)
    of_workers = {"scores": workers.scores, "experiments": workers.experiments}
    for name, projected in models.items():
        report.findings += judge_events(history, projected.ordinary, workers=of_workers.get(name, ()))
        report.findings += judge_projected(projected)
        report.counts[f"events_about_{name}"] = len(projected.log.events)
    report.findings += [*judge_verdicts(history, prompts), *judge_heads(heads, prompts)]
    report.findings += judge_runs(workers, log.records, runs.expected)
    report.findings += judge_objections(read_objections(folder))
    peaks = _peaks(_lines(folder / "memory.jsonl"))
    report.findings += judge_memory(peaks)
    report.counts |= {
        "heads_in_redis": len(heads.found),
        "runs": len(runs.expected["experiments.experiment_runs"]),
        "results_of_workers": len(workers.traces),
        "attacks": sum(sent.way == "hostile" for sent in history),
        **{f"peak_mib_of_{name}": peak for name, peak in sorted(peaks.items()) if name in MEMORY_MIB},
    }
    report.findings += judge_watched(_lines(folder / "positions.jsonl"))
    report.findings += [
        Finding(Kind.OUT_OF_PROMISE, "a process ended by itself", f"{death['name']}: {death['words']}")
        for death in _lines(folder / "deaths.jsonl")
    ]
    report.counts["settled_after_ms"] = int(1000 * waited)
    return report


def judge(
    history: list[Sent], log: Log, model: Model, begin: Mapping[int, int],
    *, workers: Workers | None = None, hostile: Collection[str] = (),
) -> Report:  # fmt: skip
    """Every promise about spans, held against what is there."""
    traces = workers.traces if workers else ()
    findings = [*judge_positions(log, model, begin)]
    log = Log([record for record in log.records if record.project not in hostile], log.ends)
    report = Report([*findings, *judge_log(history, log, traces), *judge_tables(log, model)])
    tellings = dict.fromkeys(("acked", "spooled", "refused", "unknown"), 0)
    claims: Counter[str] = Counter()
    for sent in history:
        tellings[sent.verdict] += len(sent.told)
        claims[sent.verdict] += len(sent.claims)
    report.counts = {
        "requests": len(history),
        "attempts": sum(sent.attempts for sent in history),
        **{f"tellings_{verdict}": count for verdict, count in tellings.items()},
        **{f"events_{verdict}": count for verdict, count in sorted(claims.items()) if count},
        **unsure(history, log),
        "records": len(log.records),
        "rows": len(model.spans),
        "traces": len(model.traces),
        "dead_letters": len(model.letters),
    }
    return report


def judge_objections(objections: Sequence[Objection]) -> Iterator[Finding]:
    """What workloads met that none may ever meet."""
    for objection in objections:
        yield Finding(Kind.OUT_OF_PROMISE, objection.what, objection.where)


def judge_memory(peaks: Mapping[str, int]) -> Iterator[Finding]:
    """No service is ever larger than it may be. `peaks`: MiB by name."""
    for name, peak in peaks.items():
        if peak > (most := MEMORY_MIB.get(name, peak)):
            yield Finding(Kind.OUT_OF_PROMISE, "a process beyond its memory", f"{name}: {peak} MiB of {most}")


def _peaks(samples: Iterable[Mapping[str, int]]) -> dict[str, int]:
    peaks: Counter[str] = Counter()
    for sample in samples:
        for name, size in sample.items():
            kind = name.rstrip("0123456789").removesuffix("-")
            peaks[kind] = max(peaks[kind], size // 2**20)
    return peaks


async def _projected(scene: Scene, connection: asyncpg.Connection) -> dict[str, Projected]:
    """All read models but that of spans, by their projections' names; those that a run did not use are empty."""
    found = {}
    for name, (topic, expect, read) in _MODELS.items():
        begin = scene.begin[topic]
        log = await read_events(scene.kafka, topic, begin)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            tables, progress = await read(connection, scene.projects), await read_progress(connection, name)
        ordinary = replace(log, events=[event for event in log.events if event.project not in scene.hostile])
        found[name] = Projected(log, ordinary, begin, expect(ordinary.events), tables, progress)
    return found


_MODELS = {
    "scores": (SCORES, expected_scores, read_scores),
    "prompts": (PROMPTS, expected_prompts, read_prompts),
    "experiments": (EXPERIMENTS, expected_experiments, read_experiments),
}


async def _settled(scene: Scene, settle: float) -> float:
    begin = time.monotonic()
    while True:
        at_rest = await _is_at_rest(scene)  # asked first: what comes to rest later still writes to the log
        behind = [name for name, topic in PROJECTIONS.items() if await _is_behind(scene, name, topic)]
        waited = time.monotonic() - begin
        if (at_rest and not behind) or waited > settle:
            return waited
        await asyncio.sleep(0.2)


async def _is_behind(scene: Scene, projection: str, topic: str) -> bool:
    """Whether something of the run is in the log and not folded yet."""
    ends, positions = await read_ends(scene.kafka, topic), await read_positions(scene.postgres, projection)
    begin = scene.begin[topic]
    return any(positions.get(n, 0) < end and end > begin.get(n, 0) for n, end in ends.items())


_UNDER_WAY = """
SELECT EXISTS (SELECT FROM prompts.prompt_outbox) OR EXISTS (SELECT FROM evaluator.runs WHERE state IN (1, 2))
"""


async def _is_at_rest(scene: Scene) -> bool:
    """Whether Redis was told of every prompt, and every run of workers has come to its end."""
    connection = await asyncpg.connect(scene.postgres, timeout=10)
    try:
        return not await connection.fetchval(_UNDER_WAY)
    finally:
        await connection.close()


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
