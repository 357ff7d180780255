"""What a run that is asked for means now: which dataset, which version of it, which version of a prompt."""

from dataclasses import dataclass

import asyncpg
import grpc
from lodestream_proto.v1.datasets_pb2 import DatasetSelector
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested
from lodestream_proto.v1.experiments_pb2 import StartExperimentRequest

from services.write.gateway.datasets.lookup import Datasets, Described
from services.write.gateway.experiments.prompts import Prompts
from services.write.gateway.experiments.providers import Providers
from services.write.gateway.experiments.requests import differences, with_defaults
from services.write.gateway.experiments.runs import Runs, Stored
from services.write.gateway.experiments.specs import Specs, check_evaluators
from services.write.gateway.experiments.tasks import read_task
from services.write.gateway.judge import Judge
from shared.rules.datasets import check_dataset_id, check_dataset_name
from shared.rules.experiment_ids import dataset_id_of, run_id_of
from shared.rules.experiments import MAX_NAME, check_request
from shared.rules.json_texts import canonical_json
from shared.rules.texts import check_id, check_line
from shared.runtime.refusal import InvalidError, RefusedError

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
