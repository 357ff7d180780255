"""Experiment runs: started, paused, resumed and cancelled here; results of items are taken; all reads are forwarded."""

from collections import OrderedDict
from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import grpc
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.datasets_pb2 import DatasetSelector
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    ExperimentCancelled,
    ExperimentPaused,
    ExperimentRequested,
    ExperimentResumed,
)
from lodestream_proto.v1.experiments_pb2 import StartExperimentRequest

from services.write.gateway import proxy
from services.write.gateway.datasets import Datasets, Described
from services.write.gateway.experiment_specs import Prompts, Providers, Specs, check_evaluators, read_task
from services.write.gateway.records import Envelope, checked_record
from services.write.gateway.schema_sandbox import Judge
from services.write.gateway.write_rpc import Call, Door, read
from shared.event_log.append import Record
from shared.rules.datasets import check_author, check_dataset_id, check_dataset_name
from shared.rules.experiment_ids import dataset_id_of, run_id_of
from shared.rules.experiments import CHECKS, MAX_NAME, MAX_REASON, check_request
from shared.rules.json_texts import canonical_json, is_same_json
from shared.rules.texts import check_id, check_line, check_text
from shared.runtime.refusal import InvalidError, NotFoundError, RefusedError, UnavailableError
from shared.storage.postgres import DATABASE_ERRORS

_TOLD = ("experiment_item_finished", "experiment_finished")


def runs_named(events: Iterable[Any]) -> set[str]:
    """The ids of the runs that these events tell of."""
    return {
        getattr(event, kind).run_id
        for event in events
        if isinstance(event, Event) and (kind := event.WhichOneof("payload")) in _TOLD
    }


def told_record(event: Event, envelope: Envelope, runs: Collection[str]) -> Record:
    """What a program tells of a run of its; `runs` are those that there are.

    Raises InvalidError naming the field that is wrong.
    """
    kind = str(event.WhichOneof("payload"))
    payload: Any = getattr(event, kind)
    CHECKS[kind](payload, kind)
    if payload.run_id not in runs:
        raise InvalidError(f"{kind}.run_id", f"the project has no run {payload.run_id!r}")
    return checked_record(kind, payload, envelope)


T = TypeVar("T")
_REMEMBERED = 10_000
_THERE = "SELECT run_id FROM experiment_runs WHERE project_id = $1 AND run_id = ANY($2)"
_STORED = "SELECT request, state FROM experiment_runs WHERE project_id = $1 AND run_id = $2"
_NAMED = """
SELECT run_id FROM experiment_runs WHERE project_id = $1 AND dataset_id = $2 AND name = $3 AND run_id <> $4 LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A run as it was asked for, and how it is."""

    request: ExperimentRequested
    state: int
    """lodestream_proto.v1.ExperimentState."""


class Runs:
    """Finds runs of a project. All raise UnavailableError when the database does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def find(self, project_id: str, run_ids: Collection[str]) -> Collection[str]:
        """Those of these ids that there are. A run that there is, is for ever; for another one is asked each time."""
        found = {run_id for run_id in run_ids if (project_id, run_id) in self._known}
        missing = [run_id for run_id in run_ids if run_id not in found and "\0" not in run_id]
        if missing:
            rows = await _reading(self._pool.fetch(_THERE, project_id, missing))
            found |= {row["run_id"] for row in rows}
        for run_id in found:
            self._known[project_id, run_id] = None
            self._known.move_to_end((project_id, run_id))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    async def stored(self, project_id: str, run_id: str) -> Stored | None:
        """The run of this id."""
        row = await _reading(self._pool.fetchrow(_STORED, project_id, run_id))
        return None if row is None else Stored(ExperimentRequested.FromString(row["request"]), row["state"])

    async def named_alike(self, project_id: str, requested: ExperimentRequested) -> str | None:
        """The id of another run over any version of the dataset that has the name of this one."""
        place = requested.dataset_id, requested.name, requested.run_id
        found: str | None = await _reading(self._pool.fetchval(_NAMED, project_id, *place))
        return found


async def _reading(reading: Awaitable[T]) -> T:
    try:
        return await reading
    except DATABASE_ERRORS as error:
        raise UnavailableError("runs can't be read: the database does not answer", retry_seconds=5) from error


REPETITIONS, CONCURRENCY = 1, 8
"""Of a run that does not say."""
_JSON = ("task_json", "evaluators_json", "run_evaluators_json", "metadata_json")
_COMPARED = (
    "name",
    "dataset_id",
    "dataset_version",
    "splits",
    *_JSON,
    "repetitions",
    "max_concurrency",
    "description",
    "budget",
)


def with_defaults(asked: ExperimentRequested) -> ExperimentRequested:
    """A copy that says how often, and how much at once; its splits sorted."""
    requested = ExperimentRequested()
    requested.CopyFrom(asked)
    requested.repetitions = asked.repetitions or REPETITIONS
    requested.max_concurrency = asked.max_concurrency or CONCURRENCY
    requested.splits[:] = sorted(set(asked.splits))
    return requested


def differences(one: ExperimentRequested, other: ExperimentRequested) -> list[str]:
    """The fields in which two runs of one id were asked for differently; whoever asked, it is the same run."""
    return [field for field in _COMPARED if not _is_same(one, other, field)]


def _is_same(one: ExperimentRequested, other: ExperimentRequested, field: str) -> bool:
    if field in _JSON:
        return is_same_json(getattr(one, field), getattr(other, field))
    if field == "splits":
        return sorted(one.splits) == sorted(other.splits)
    return bool(getattr(one, field) == getattr(other, field))


_PATH = "experiment"


@dataclass(frozen=True, slots=True)
class Meant:
    """A run that may be: as it goes into the log, or as it is there already."""

    request: ExperimentRequested
    is_there: bool


class Starting:
    """Finds out what runs mean. What was left open when a run was first asked for, means the same for ever."""

    def __init__(self, pool: asyncpg.Pool, runs: Runs, judge: Judge) -> None:
        self._runs, self._judge, self._datasets, self._prompts = runs, judge, Datasets(pool), Prompts(pool)
        self._providers = Providers(pool)

    async def meant(self, project_id: str, asked: StartExperimentRequest) -> Meant:
        """The run that is asked for.

        Raises RefusedError: it can't be, or it is another one than there is of that id or name.
        """
        requested = with_defaults(asked.experiment)
        check_line(requested.name, f"{_PATH}.name", most=MAX_NAME)
        task = read_task(requested.task_json, f"{_PATH}.task_json")
        _set_dataset_id(requested, asked)
        requested.run_id = requested.run_id or run_id_of(requested.dataset_id, requested.name)
        check_id(requested.run_id, f"{_PATH}.run_id")
        stored = await self._runs.stored(project_id, requested.run_id)
        dataset = await self._dataset(project_id, requested, asked, stored)
        if task is not None:
            there = stored.request.task_json if stored else ""
            its = await self._prompts.task(project_id, task, there, f"{_PATH}.task_json")
            requested.task_json = canonical_json(its)
        check_request(requested, _PATH)
        specs = await check_evaluators(project_id, requested, _PATH, self._judge, of_a_program=task is None)
        if task is not None:
            await self._pin(project_id, requested, specs, stored)
        if stored is not None:
            refuse_another(stored.request, requested)
            return Meant(stored.request, is_there=True)
        if task is not None:
            await self._providers.check(project_id, task.told, specs, _PATH)
        await self._refuse_taken_name(project_id, requested)
        if dataset is not None:
            dataset.refuse_archived()
            await self._datasets.refuse_empty(project_id, dataset, requested.dataset_version, requested.splits)
        return Meant(requested, is_there=False)

    async def _dataset(
        self, project_id: str, requested: ExperimentRequested, asked: StartExperimentRequest, stored: Stored | None
    ) -> Described | None:
        """The dataset of the run, whose version is then in the request; None: it is over other data."""
        if not requested.dataset_id:
            return None
        dataset = await self._datasets.find_by_id(project_id, requested.dataset_id, asked.dataset.name)
        version = await self._datasets.version_of(project_id, dataset, asked.dataset, requested.dataset_version)
        if version is None:
            is_same = stored is not None and stored.request.dataset_id == dataset.dataset_id
            version = stored.request.dataset_version if stored is not None and is_same else dataset.version
        requested.dataset_version = version
        return dataset

    async def _pin(self, project_id: str, requested: ExperimentRequested, specs: Specs, stored: Stored | None) -> None:
        """Have the rubrics of judges mean versions."""
        for field, its in specs.items():
            there = getattr(stored.request, field) if stored else ""
            pinned = await self._prompts.specs(project_id, its, there, f"{_PATH}.{field}")
            if pinned != its:
                setattr(requested, field, canonical_json(pinned))
        check_request(requested, _PATH)  # again: it may have become a little longer

    async def _refuse_taken_name(self, project_id: str, requested: ExperimentRequested) -> None:
        other = await self._runs.named_alike(project_id, requested)
        if other is not None:
            data = "a run over this dataset" if requested.dataset_id else "a run over data in no dataset"
            why = f"{_PATH}.name: {requested.name!r} is the name of {data} already, {other!r}"
            raise RefusedError(grpc.StatusCode.ALREADY_EXISTS, why)


def refuse_another(there: ExperimentRequested, requested: ExperimentRequested) -> None:
    """Raises RefusedError when a run of this id was asked for differently; it says in what."""
    if different := differences(there, requested):
        why = f"run {there.run_id!r} is another one: it differs in {', '.join(different)}"
        raise RefusedError(grpc.StatusCode.ALREADY_EXISTS, why)


def _set_dataset_id(requested: ExperimentRequested, asked: StartExperimentRequest) -> None:
    """The id of the dataset that is meant by name or by id, if one is."""
    if asked.HasField("dataset"):
        selector: DatasetSelector = asked.dataset
        check_dataset_name(selector.name, "dataset.name")
        its = dataset_id_of(selector.name)
        if requested.dataset_id and requested.dataset_id != its:
            raise InvalidError(f"{_PATH}.dataset_id", f"is not that of the dataset {selector.name!r}")
        requested.dataset_id = its
    elif requested.dataset_id:
        check_dataset_id(requested.dataset_id, f"{_PATH}.dataset_id")


SERVICE = pb.DESCRIPTOR.services_by_name["ExperimentService"]
_GOING_ON = (pb.EXPERIMENT_STATE_RUNNING, pb.EXPERIMENT_STATE_PAUSED)


class ExperimentWrites:
    """Answers with the run as the read model has it then; the same request again changes nothing."""

    def __init__(self, door: Door, query: grpc.aio.Channel, pool: asyncpg.Pool, runs: Runs, judge: Judge) -> None:
        self._door, self._query, self._runs = door, query, runs
        self._starting = Starting(pool, runs, judge)
        self._get: Any = query.unary_unary(
            f"/{SERVICE.full_name}/GetExperiment",
            request_serializer=pb.GetExperimentRequest.SerializeToString,
            response_deserializer=pb.GetExperimentResponse.FromString,
        )

    def handlers(self) -> grpc.GenericRpcHandler:
        """Every method of the service, bytes to bytes."""
        ours: dict[str, Any] = {
            "StartExperiment": self._door.method("StartExperiment", self._start),
            "PauseExperiment": self._door.method("PauseExperiment", self._pause),
            "ResumeExperiment": self._door.method("ResumeExperiment", self._resume),
            "CancelExperiment": self._door.method("CancelExperiment", self._cancel),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE.full_name, {**proxy.forwarded(self._query, SERVICE, but=ours), **ours}
        )

    async def _start(self, call: Call) -> pb.StartExperimentResponse:
        position = ""
        with call.held() as room:
            asked = read(pb.StartExperimentRequest, call.request)
            room.charge_payload(asked.experiment, "experiment")
            meant = await self._starting.meant(call.project_id, asked)
            if not meant.is_there:
                record = checked_record("experiment_requested", meant.request, call.envelope())
                position = await call.append([record])
        run = await self._readable(call, meant.request.run_id, position)
        refuse_another(run.request, meant.request)  # somebody else's may have come first
        return pb.StartExperimentResponse(run=run, created=not meant.is_there, position=position)

    async def _pause(self, call: Call) -> pb.PauseExperimentResponse:
        asked = read(pb.PauseExperimentRequest, call.request)
        event = ExperimentPaused(run_id=asked.run_id, author=asked.author)
        run, position = await self._move(call, "experiment_paused", event)
        return pb.PauseExperimentResponse(run=run, position=position)

    async def _resume(self, call: Call) -> pb.ResumeExperimentResponse:
        asked = read(pb.ResumeExperimentRequest, call.request)
        event = ExperimentResumed(run_id=asked.run_id, author=asked.author)
        run, position = await self._move(call, "experiment_resumed", event)
        return pb.ResumeExperimentResponse(run=run, position=position)

    async def _cancel(self, call: Call) -> pb.CancelExperimentResponse:
        asked = read(pb.CancelExperimentRequest, call.request)
        check_text(asked.reason, "reason", least=0, most=MAX_REASON)
        event = ExperimentCancelled(run_id=asked.run_id, reason=asked.reason, author=asked.author)
        run, position = await self._move(call, "experiment_cancelled", event)
        return pb.CancelExperimentResponse(run=run, position=position)

    async def _move(self, call: Call, kind: str, event: Any) -> tuple[pb.ExperimentRun, str]:
        """The run after an event that moves it. One that is cancelled already can be cancelled again."""
        with call.held():
            check_id(event.run_id, "run_id")
            check_author(event.author, "author")
            stored = await self._runs.stored(call.project_id, event.run_id)
            if stored is None:
                raise NotFoundError(f"run {event.run_id!r}")
            is_again = kind == "experiment_cancelled" and stored.state == pb.EXPERIMENT_STATE_CANCELLED
            if stored.state not in _GOING_ON and not is_again:
                why = f"run {event.run_id!r} has ended: {_in_words(stored.state)}"
                raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why)
            position = await call.append([checked_record(kind, event, call.envelope())])
        return await self._readable(call, event.run_id, position), position

    async def _readable(self, call: Call, run_id: str, position: str) -> pb.ExperimentRun:
        request = pb.GetExperimentRequest(run_id=run_id)
        if not position:
            answer: pb.GetExperimentResponse = await call.ask(self._get, request)
        else:
            answer = await call.when_readable(self._get, request, position, f"run {run_id!r}")
        return answer.run


def _in_words(state: int) -> str:
    name = next((name for name, value in pb.ExperimentState.items() if value == state), str(state))
    return name.removeprefix("EXPERIMENT_STATE_").lower().replace("_", " ")
