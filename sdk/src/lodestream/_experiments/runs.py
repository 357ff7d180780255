"""A run at the server: begun, or found as it was left, and followed while it runs here."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from lodestream_evals.strict_json import canonical_json
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

from lodestream._datasets.dataset import Dataset
from lodestream._diagnostics import log
from lodestream._experiments.calling import in_thread
from lodestream._experiments.errors import ExperimentError, ExperimentRefusedError
from lodestream._experiments.evaluators import PlannedEvaluator
from lodestream._experiments.plan import Plan
from lodestream._experiments.requests import call_experiment_service, find_run, list_finished_items
from lodestream._experiments.rows import Row, rows_of
from lodestream._experiments.session import Session
from lodestream._settings import author

_LEFT_SECONDS = 30.0
_FLUSH_SECONDS = 10.0
_ENDED = {
    pb.EXPERIMENT_STATE_CANCELLED: "was cancelled",
    pb.EXPERIMENT_STATE_FAILED: "failed",
    pb.EXPERIMENT_STATE_BUDGET_SPENT: "ended with its budget",
}
Done = Mapping[tuple[str, int], pb.ExperimentItem]
"""Items that are done, by item and repetition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that is under way, or was."""

    session: Session
    request: ExperimentRequested
    dataset_name: str
    recorded: bool
    rows: Sequence[Row] = ()
    done: Done = field(default_factory=dict)
    complete: pb.ExperimentRun | None = None
    """The run at the server, when nothing is left to do."""

    @property
    def id(self) -> str:
        return self.request.run_id


def open_run(client: Session, plan: Plan, data: Any) -> Run:
    """The run with its rows, and what of it is done.

    Raises ExperimentError, DatasetError.
    """
    dataset = data if isinstance(data, Dataset) else None
    name = dataset.name if dataset else ""
    if not client._delivers:
        rows = rows_of(data)
        log.info("experiment %r: there is no server; its results are in this process only", plan.name)
        return Run(session=client, request=_request(plan, dataset, rows), dataset_name=name, recorded=False, rows=rows)
    channel, run_id = client._channel, run_id_of(dataset.id if dataset else "", plan.run_name)
    run = find_run(channel, run_id) if plan.named else None
    if run is not None:
        _deliver_what_was_left(client)
        run = find_run(channel, run_id, client.position)
    if run is not None and dataset is not None:
        dataset = _at_the_runs_version(dataset, run)
    rows = rows_of(dataset or data)
    request = _request(plan, dataset, rows)
    if run is None:
        answer = call_experiment_service(
            channel, "StartExperiment", pb.StartExperimentRequest(experiment=request), pb.StartExperimentResponse
        )
        run = answer.run
        if answer.created:
            return Run(session=client, request=run.request, dataset_name=name, recorded=True, rows=rows)
    _refuse_another(run, request)
    if run.state == pb.EXPERIMENT_STATE_PAUSED:
        call_experiment_service(channel, "ResumeExperiment", pb.ResumeExperimentRequest(run_id=run_id, author=author()),
              pb.ResumeExperimentResponse)  # fmt: skip
    done = {
        (it.result.item_id, it.result.repetition): it for it in list_finished_items(channel, run_id, client.position)
    }
    _warn_of_other_evaluators(plan, run, done)
    complete = run if run.state == pb.EXPERIMENT_STATE_COMPLETED else None
    return Run(
        session=client, request=run.request, dataset_name=name, recorded=True, rows=rows, done=done, complete=complete
    )  # fmt: skip


def how_it_ended(run: pb.ExperimentRun) -> str:
    """In words, when it ended otherwise than by being complete; else nothing."""
    how = _ENDED.get(run.state, "")
    return f"{how} ({run.reason})" if how and run.reason else how


def _deliver_what_was_left(client: Session) -> None:
    """What this process, or one that was killed, has finished and not delivered is not to be done again."""
    client.flush(_FLUSH_SECONDS)
    if not client._pipeline.deliver_left(_LEFT_SECONDS):
        log.warning("what earlier processes left could not be delivered yet; some items may be done again")


def _at_the_runs_version(dataset: Dataset, run: pb.ExperimentRun) -> Dataset:
    """A run goes on over the version that it began with, unless another one was asked for."""
    version = run.request.dataset_version
    if dataset.version == version:
        return dataset
    if dataset.pinned:
        raise ExperimentRefusedError(
            f"run_name: {run.request.name!r} is a run over version {version} of {dataset.name!r}, "
            f"not {dataset.version}; another one needs another name"
        )
    log.warning("run %r goes on over version %d of %r, with which it began; the dataset is at version %d now",
                run.request.name, version, dataset.name, dataset.version)  # fmt: skip
    return dataset.at(version)


def _request(plan: Plan, dataset: Dataset | None, rows: Sequence[Row]) -> ExperimentRequested:
    task: dict[str, Any] = {"kind": "sdk", "name": plan.name, "function": plan.task_name}
    if dataset is None:
        ids = "\n".join(sorted(row.id for row in rows))
        task |= {"data": hashlib.sha256(ids.encode()).hexdigest()[:32], "items": len(rows)}
    evaluators = [*plan.evaluators, *([plan.composite] if plan.composite else [])]
    return ExperimentRequested(
        run_id=run_id_of(dataset.id if dataset else "", plan.run_name),
        name=plan.run_name,
        dataset_id=dataset.id if dataset else "",
        dataset_version=dataset.version if dataset else 0,
        splits=dataset.splits if dataset else (),
        task_json=json.dumps(task, ensure_ascii=False),
        evaluators_json=_specs(evaluators),
        run_evaluators_json=_specs(plan.run_evaluators),
        metadata_json=plan.metadata_json,
        repetitions=plan.repetitions,
        max_concurrency=plan.max_concurrency,
        description=plan.description,
        author=author(),
    )


def _specs(evaluators: Sequence[PlannedEvaluator]) -> str:
    return json.dumps([evaluator.spec for evaluator in evaluators], ensure_ascii=False) if evaluators else ""


def run_id_of(dataset_id: str, run_name: str) -> str:
    """Return the id of a run over a dataset, or over data in none."""
    key = canonical_json([dataset_id, run_name], "run")
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _refuse_another(run: pb.ExperimentRun, request: ExperimentRequested) -> None:
    """Raises ExperimentRefusedError when the run of that name is not the one that is asked for, or can't go on."""
    earlier = run.request
    differs = [
        f"its {name} {_worded(here)}, now {_worded(there)}"
        for name, here, there in (
            ("task is", json.loads(earlier.task_json or "{}"), json.loads(request.task_json)),
            ("repetitions are", earlier.repetitions, request.repetitions),
            ("splits are", sorted(earlier.splits), sorted(request.splits)),
        )
        if here != there
    ]
    if differs:
        raise ExperimentRefusedError(
            f"run_name: {earlier.name!r} is another run: {'; '.join(differs)}. This one needs another name"
        )
    if how := how_it_ended(run):
        raise ExperimentRefusedError(f"run_name: {earlier.name!r} {how}; to run it again, give it another name")


def _warn_of_other_evaluators(plan: Plan, run: pb.ExperimentRun, done: Done) -> None:
    """Items keep the judgements that they have; where others would judge now, somebody should know."""
    now = {
        evaluator.name: evaluator.revision
        for evaluator in (*plan.evaluators, *([plan.composite] if plan.composite else []))
    }
    then = {it.name: it.evaluator_version for item in done.values() for it in item.result.evaluations}
    changed = sorted(name for name, revision in then.items() if now.get(name, revision) != revision)
    if changed and len(done) and run.state == pb.EXPERIMENT_STATE_RUNNING:
        log.warning("run %r: %s changed since some of its items were judged; those keep what was said of them",
                    run.request.name, ", ".join(changed))  # fmt: skip


def _worded(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, int) else str(value)


LOOK_SECONDS = 2.0
_HEED_SECONDS = 0.05


class RemoteRunState:
    """Looked for once in a while. A server that is away gives none, and the run goes on."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._paused = False
        self._follower: asyncio.Task[None] | None = None
        self.ended = ""
        """How the run was ended, in words; empty while it was not."""

    async def __aenter__(self) -> Self:
        if self._run.recorded:
            self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._follower is not None:
            self._follower.cancel()

    async def wait_while_paused(self, stopped: Callable[[], bool]) -> None:
        """Wait while the run is paused, and is not stopped here."""
        while self._paused and not self.ended and not stopped():
            await asyncio.sleep(_HEED_SECONDS)

    async def _follow(self) -> None:
        while not self.ended:
            await asyncio.sleep(LOOK_SECONDS)
            ask = partial(find_run, self._run.session._channel, self._run.id, retries=0)
            try:
                run = await in_thread(ask)
            except ExperimentError as error:
                log.debug("looking for the state of the run: %s", error)
                continue
            if run is not None:
                self._take(run)

    def _take(self, run: pb.ExperimentRun) -> None:
        self.ended = how_it_ended(run)
        paused = run.state == pb.EXPERIMENT_STATE_PAUSED
        if paused and not self._paused:
            log.warning("run %r is paused; no item is begun until it is resumed", run.request.name)
        self._paused = paused
