"""Experiment runs: started, paused, resumed and cancelled here; results of items are taken; all reads are forwarded."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    ExperimentCancelled,
    ExperimentPaused,
    ExperimentRequested,
    ExperimentResumed,
)
from lodestream_proto.v1.experiments_pb2_grpc import ExperimentServiceStub

from services.write.gateway.datasets import DatasetLookup, DatasetRow
from services.write.gateway.experiment_specs import (
    PromptPinning,
    ProviderPolicy,
    Specs,
    check_evaluators,
    read_task,
)
from services.write.gateway.proxy import service_handler
from services.write.gateway.records import Envelope, experiment_record
from services.write.gateway.schema_sandbox import SchemaSandbox
from services.write.gateway.write_rpc import WriteCall, WriteRpcs
from shared.event_log.append import Record
from shared.rules.datasets import check_author, check_dataset_id, check_dataset_name
from shared.rules.experiment_ids import dataset_id_of, run_id_of
from shared.rules.experiments import CHECKS, MAX_NAME, MAX_REASON, check_request
from shared.rules.json_texts import canonical_json, is_same_json
from shared.rules.texts import check_id, check_line, check_text
from shared.runtime.lru_cache import LruCache
from shared.runtime.refusal import InvalidError, NotFoundError, RefusedError
from shared.storage.named_queries import load_queries
from shared.storage.postgres import reading

SERVICE = pb.DESCRIPTOR.services_by_name["ExperimentService"]
DEFAULT_REPETITIONS, DEFAULT_CONCURRENCY = 1, 8
_PATH = "experiment"
_RESULT_KINDS = ("experiment_item_finished", "experiment_finished")
_JSON_FIELDS = ("task_json", "evaluators_json", "run_evaluators_json", "metadata_json")
_COMPARED_FIELDS = (
    "name",
    "dataset_id",
    "dataset_version",
    "splits",
    *_JSON_FIELDS,
    "repetitions",
    "max_concurrency",
    "description",
    "budget",
)
_UNDER_WAY = (pb.EXPERIMENT_STATE_RUNNING, pb.EXPERIMENT_STATE_PAUSED)
_REMEMBERED = 10_000
_QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
_FIND_RUNS, _FIND_RUN = _QUERIES["find_runs"], _QUERIES["find_run"]
_FIND_RUN_OF_SAME_NAME = _QUERIES["find_run_of_same_name"]


def run_ids_in(events: Iterable[Any]) -> set[str]:
    """Return the ids of the runs that these events have results of."""
    return {
        getattr(event, kind).run_id
        for event in events
        if isinstance(event, Event) and (kind := event.WhichOneof("payload")) in _RESULT_KINDS
    }


def result_record(event: Event, envelope: Envelope, run_ids: Collection[str]) -> Record:
    """Return the record of a result that a program sends of its own run; `run_ids` are those that there are.

    Raises InvalidError naming the field that is wrong.
    """
    kind = str(event.WhichOneof("payload"))
    payload: Any = getattr(event, kind)
    CHECKS[kind](payload, kind)
    if payload.run_id not in run_ids:
        raise InvalidError(f"{kind}.run_id", f"the project has no run {payload.run_id!r}")
    return experiment_record(kind, payload, envelope)


def with_defaults(request: ExperimentRequested) -> ExperimentRequested:
    """Return a copy of a run's request that gives repetitions and concurrency, its splits sorted."""
    requested = ExperimentRequested()
    requested.CopyFrom(request)
    requested.repetitions = request.repetitions or DEFAULT_REPETITIONS
    requested.max_concurrency = request.max_concurrency or DEFAULT_CONCURRENCY
    requested.splits[:] = sorted(set(request.splits))
    return requested


def differences(one: ExperimentRequested, other: ExperimentRequested) -> list[str]:
    """Return the fields in which two requests for one run id differ; whoever the author is, it is the same run."""
    return [field for field in _COMPARED_FIELDS if not _is_same(one, other, field)]


def refuse_different(existing: ExperimentRequested, requested: ExperimentRequested) -> None:
    """Raise RefusedError, which says in what, when a run of this id was requested differently."""
    if different := differences(existing, requested):
        why = f"run {existing.run_id!r} is another one: it differs in {', '.join(different)}"
        raise RefusedError(grpc.StatusCode.ALREADY_EXISTS, why)


def _is_same(one: ExperimentRequested, other: ExperimentRequested, field: str) -> bool:
    if field in _JSON_FIELDS:
        return is_same_json(getattr(one, field), getattr(other, field))
    if field == "splits":
        return sorted(one.splits) == sorted(other.splits)
    return bool(getattr(one, field) == getattr(other, field))


def _set_dataset_id(requested: ExperimentRequested, request: pb.StartExperimentRequest) -> None:
    """Set the id of the dataset that is meant by name or by id, if any is."""
    if request.HasField("dataset"):
        name = request.dataset.name
        check_dataset_name(name, "dataset.name")
        dataset_id = dataset_id_of(name)
        if requested.dataset_id and requested.dataset_id != dataset_id:
            raise InvalidError(f"{_PATH}.dataset_id", f"is not that of the dataset {name!r}")
        requested.dataset_id = dataset_id
    elif requested.dataset_id:
        check_dataset_id(requested.dataset_id, f"{_PATH}.dataset_id")


def _state_in_words(state: int) -> str:
    name = next((name for name, value in pb.ExperimentState.items() if value == state), str(state))
    return name.removeprefix("EXPERIMENT_STATE_").lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run in the read model."""

    request: ExperimentRequested
    state: int
    """An ExperimentState."""


@dataclass(frozen=True, slots=True)
class ResolvedRun:
    """A run that may be started: its request as it goes into the log, or as it is there already."""

    request: ExperimentRequested
    exists: bool


class RunLookup:
    """Looks up runs in the read model. All methods raise UnavailableError when the database does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._existing: LruCache[tuple[str, str], bool] = LruCache(_REMEMBERED)

    async def find(self, project_id: str, run_ids: Collection[str]) -> Collection[str]:
        """Return those of these ids that there are. Runs stay for ever; one that is missing is looked up each time."""
        existing = {run_id for run_id in run_ids if self._existing.get((project_id, run_id))}
        missing = [run_id for run_id in run_ids if run_id not in existing and "\0" not in run_id]
        if missing:
            with reading("runs"):
                rows = await self._pool.fetch(_FIND_RUNS, project_id, missing)
            for row in rows:
                existing.add(row["run_id"])
                self._existing[project_id, row["run_id"]] = True
        return existing

    async def get(self, project_id: str, run_id: str) -> StoredRun | None:
        """Return the run of this id."""
        with reading("runs"):
            row = await self._pool.fetchrow(_FIND_RUN, project_id, run_id)
        return None if row is None else StoredRun(ExperimentRequested.FromString(row["request"]), row["state"])

    async def find_other_of_name(self, project_id: str, requested: ExperimentRequested) -> str | None:
        """Return the id of another run of the same name over any version of the dataset."""
        with reading("runs"):
            run_id: str | None = await self._pool.fetchval(
                _FIND_RUN_OF_SAME_NAME, project_id, requested.dataset_id, requested.name, requested.run_id
            )
        return run_id


class RunResolver:
    """Resolves what a request for a run leaves open: the dataset's version, the versions of prompts, the run's id.

    What was left open when a run was first requested means the same for ever.
    """

    def __init__(self, pool: asyncpg.Pool, runs: RunLookup, sandbox: SchemaSandbox) -> None:
        self._runs, self._sandbox, self._datasets = runs, sandbox, DatasetLookup(pool)
        self._prompts, self._providers = PromptPinning(pool), ProviderPolicy(pool)

    async def resolve(self, project_id: str, request: pb.StartExperimentRequest) -> ResolvedRun:
        """Return the run that is requested.

        Raises RefusedError when it can't be started, or is another one than there is of that id or name.
        """
        requested = with_defaults(request.experiment)
        check_line(requested.name, f"{_PATH}.name", most=MAX_NAME)
        task = read_task(requested.task_json, f"{_PATH}.task_json")
        _set_dataset_id(requested, request)
        requested.run_id = requested.run_id or run_id_of(requested.dataset_id, requested.name)
        check_id(requested.run_id, f"{_PATH}.run_id")
        stored = await self._runs.get(project_id, requested.run_id)
        dataset = await self._resolve_dataset(project_id, requested, request, stored)
        if task is not None:
            stored_json = stored.request.task_json if stored else ""
            pinned = await self._prompts.pin_task(project_id, task, stored_json, f"{_PATH}.task_json")
            requested.task_json = canonical_json(pinned)
        check_request(requested, _PATH)
        specs = await check_evaluators(project_id, requested, _PATH, self._sandbox, of_a_program=task is None)
        if task is not None:
            await self._pin_rubrics(project_id, requested, specs, stored)
        if stored is not None:
            refuse_different(stored.request, requested)
            return ResolvedRun(stored.request, exists=True)
        if task is not None:
            await self._providers.check(project_id, task.fields, specs, _PATH)
        await self._refuse_taken_name(project_id, requested)
        if dataset is not None:
            dataset.refuse_archived()
            await self._datasets.refuse_empty(project_id, dataset, requested.dataset_version, requested.splits)
        return ResolvedRun(requested, exists=False)

    async def _resolve_dataset(
        self,
        project_id: str,
        requested: ExperimentRequested,
        request: pb.StartExperimentRequest,
        stored: StoredRun | None,
    ) -> DatasetRow | None:
        """Set the version of the run's dataset, and return the dataset; None for a run over other data."""
        if not requested.dataset_id:
            return None
        dataset = await self._datasets.find_by_id(project_id, requested.dataset_id, request.dataset.name)
        version = await self._datasets.selected_version(project_id, dataset, request.dataset, requested.dataset_version)
        if version is None:
            is_same = stored is not None and stored.request.dataset_id == dataset.dataset_id
            version = stored.request.dataset_version if stored is not None and is_same else dataset.version
        requested.dataset_version = version
        return dataset

    async def _pin_rubrics(
        self, project_id: str, requested: ExperimentRequested, specs: Specs, stored: StoredRun | None
    ) -> None:
        """Have the rubrics of judges refer to versions of prompts."""
        for field, field_specs in specs.items():
            stored_json = getattr(stored.request, field) if stored else ""
            pinned = await self._prompts.pin_rubrics(project_id, field_specs, stored_json, f"{_PATH}.{field}")
            if pinned != field_specs:
                setattr(requested, field, canonical_json(pinned))
        check_request(requested, _PATH)  # again: it may have become a little longer

    async def _refuse_taken_name(self, project_id: str, requested: ExperimentRequested) -> None:
        other = await self._runs.find_other_of_name(project_id, requested)
        if other is not None:
            data = "a run over this dataset" if requested.dataset_id else "a run over data in no dataset"
            why = f"{_PATH}.name: {requested.name!r} is the name of {data} already, {other!r}"
            raise RefusedError(grpc.StatusCode.ALREADY_EXISTS, why)


class ExperimentService:
    """Writes of runs answer with the run as the read model has it then; the same request again changes nothing.

    All of them raise InvalidError naming the field that is wrong, and UnavailableError when nothing is known to be
    stored, or it is in the log and can't be read yet.
    """

    def __init__(
        self, rpcs: WriteRpcs, query: grpc.aio.Channel, pool: asyncpg.Pool, runs: RunLookup, sandbox: SchemaSandbox
    ) -> None:
        self._rpcs, self._channel, self._runs = rpcs, query, runs
        self._resolver = RunResolver(pool, runs, sandbox)
        self._query: Any = ExperimentServiceStub(query)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return every method of the service, from bytes to bytes."""
        writes = {
            "StartExperiment": self._start,
            "PauseExperiment": self._pause,
            "ResumeExperiment": self._resume,
            "CancelExperiment": self._cancel,
        }
        methods = {rpc: self._rpcs.unary(rpc, write) for rpc, write in writes.items()}
        return service_handler(self._channel, SERVICE, methods)

    async def _start(self, call: WriteCall) -> pb.StartExperimentResponse:
        """Start a run, unless the same run is there already.

        Args:
            call: A StartExperimentRequest.

        Returns:
            The run, whether it was created by this request, and then its position.

        Raises:
            NotFoundError: The project has no such dataset, version or prompt.
            RefusedError: ALREADY_EXISTS for a different run of this id or name; FAILED_PRECONDITION for a dataset that
                is archived or has no such items, and for a spending cap that is reached.
        """
        position = ""
        with call.hold_room() as room:
            request = call.parse(pb.StartExperimentRequest)
            room.charge_payload(request.experiment, _PATH)
            resolved = await self._resolver.resolve(call.project_id, request)
            if not resolved.exists:
                position = await call.append(
                    [experiment_record("experiment_requested", resolved.request, call.envelope())]
                )
        run = await self._read_back(call, resolved.request.run_id, position)
        refuse_different(run.request, resolved.request)  # another writer's may have come first
        return pb.StartExperimentResponse(run=run, created=not resolved.exists, position=position)

    async def _pause(self, call: WriteCall) -> pb.PauseExperimentResponse:
        """Pause a run: workers begin no further items of it.

        Args:
            call: A PauseExperimentRequest.

        Returns:
            The run, and the position of the change.

        Raises:
            NotFoundError: The project has no such run.
            RefusedError: FAILED_PRECONDITION when it has ended.
        """
        request = call.parse(pb.PauseExperimentRequest)
        event = ExperimentPaused(run_id=request.run_id, author=request.author)
        run, position = await self._change_state(call, "experiment_paused", event)
        return pb.PauseExperimentResponse(run=run, position=position)

    async def _resume(self, call: WriteCall) -> pb.ResumeExperimentResponse:
        """Resume a run that is paused.

        Args:
            call: A ResumeExperimentRequest.

        Returns:
            The run, and the position of the change.

        Raises:
            NotFoundError: The project has no such run.
            RefusedError: FAILED_PRECONDITION when it has ended.
        """
        request = call.parse(pb.ResumeExperimentRequest)
        event = ExperimentResumed(run_id=request.run_id, author=request.author)
        run, position = await self._change_state(call, "experiment_resumed", event)
        return pb.ResumeExperimentResponse(run=run, position=position)

    async def _cancel(self, call: WriteCall) -> pb.CancelExperimentResponse:
        """Cancel a run for good; one that is cancelled already can be cancelled again.

        Args:
            call: A CancelExperimentRequest.

        Returns:
            The run, and the position of the change.

        Raises:
            NotFoundError: The project has no such run.
            RefusedError: FAILED_PRECONDITION when it has ended otherwise.
        """
        request = call.parse(pb.CancelExperimentRequest)
        check_text(request.reason, "reason", least=0, most=MAX_REASON)
        event = ExperimentCancelled(run_id=request.run_id, reason=request.reason, author=request.author)
        run, position = await self._change_state(call, "experiment_cancelled", event)
        return pb.CancelExperimentResponse(run=run, position=position)

    async def _change_state(
        self, call: WriteCall, kind: str, event: ExperimentPaused | ExperimentResumed | ExperimentCancelled
    ) -> tuple[pb.ExperimentRun, str]:
        """Append an event that changes a run's state; returns the run then, and the position."""
        with call.hold_room():
            check_id(event.run_id, "run_id")
            check_author(event.author, "author")
            stored = await self._runs.get(call.project_id, event.run_id)
            if stored is None:
                raise NotFoundError(f"run {event.run_id!r}")
            is_again = kind == "experiment_cancelled" and stored.state == pb.EXPERIMENT_STATE_CANCELLED
            if stored.state not in _UNDER_WAY and not is_again:
                why = f"run {event.run_id!r} has ended: {_state_in_words(stored.state)}"
                raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why)
            position = await call.append([experiment_record(kind, event, call.envelope())])
        return await self._read_back(call, event.run_id, position), position

    async def _read_back(self, call: WriteCall, run_id: str, position: str) -> pb.ExperimentRun:
        request = pb.GetExperimentRequest(run_id=run_id)
        response: pb.GetExperimentResponse
        if not position:
            response = await call.query(self._query.GetExperiment, request)
        else:
            response = await call.read_back(self._query.GetExperiment, request, position, what=f"run {run_id!r}")
        return response.run
