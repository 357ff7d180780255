"""A real server in this process that has datasets and experiments too, with the rules that a client can tell."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import datasets_pb2 as ds
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import DatasetItemRecorded, ExperimentItemFinished

from sdk.tests.collector import Collector

_DATASETS, _EXPERIMENTS = "lodestream_proto.v1.DatasetService", "lodestream_proto.v1.ExperimentService"


class ExperimentServer(Collector):
    """Datasets and runs of one project in memory; what programs tell of runs comes by Record."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.asked: Counter[str] = Counter()
        """Calls by method."""
        self.sent: list[Any] = []
        """Their requests."""
        self.failing: grpc.StatusCode | None = None
        """What every call of datasets and experiments is answered with."""
        self.most_bytes = 1 << 30
        """Of an answer; a larger one is not given."""
        self.datasets: dict[str, ds.Dataset] = {}
        self.runs: dict[str, pb.ExperimentRun] = {}
        self._items: dict[str, list[ds.DatasetItem]] = {}
        for service, methods in (
            (
                _DATASETS,
                {
                    "CreateDataset": (self._create, ds.CreateDatasetRequest),
                    "RecordItems": (self._record_items, ds.RecordItemsRequest),
                    "ArchiveItems": (self._archive_items, ds.ArchiveItemsRequest),
                    "ArchiveDataset": (self._archive, ds.ArchiveDatasetRequest),
                    "GetDataset": (self._get, ds.GetDatasetRequest),
                    "ListItems": (self._list_items, ds.ListItemsRequest),
                },
            ),
            (
                _EXPERIMENTS,
                {
                    "StartExperiment": (self._start, pb.StartExperimentRequest),
                    "ResumeExperiment": (self._resume, pb.ResumeExperimentRequest),
                    "GetExperiment": (self._get_run, pb.GetExperimentRequest),
                    "ListExperimentItems": (self._list_finished, pb.ListExperimentItemsRequest),
                    "CompareExperiments": (self._compare, pb.CompareExperimentsRequest),
                },
            ),
        ):
            handlers = {name: self._handler(name, answer, request) for name, (answer, request) in methods.items()}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    # --- Datasets -------------------------------------------------------------------------------------------------

    def add(self, name: str, *items: dict[str, Any], **fields: Any) -> None:
        """A dataset with items, as if somebody else had made it."""
        dataset = self.datasets.setdefault(name, ds.Dataset(dataset_id=_hash(name), name=name, version=1, **fields))
        for item in items:
            self._record_item(dataset, _recorded(item))

    def _create(self, request: ds.CreateDatasetRequest, context: Any) -> ds.CreateDatasetResponse:
        told = request.dataset
        if not told.name:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "dataset.name: is empty")
        dataset = self.datasets.setdefault(told.name, ds.Dataset(dataset_id=_hash(told.name), name=told.name))
        dataset.version += 1
        for field in ("description", "metadata_json", "input_schema_json", "expected_output_schema_json"):
            setattr(dataset, field, getattr(told, field))
        return ds.CreateDatasetResponse(dataset=dataset, position="lodestream.experiments:0:1")

    def _record_items(self, request: ds.RecordItemsRequest, context: Any) -> ds.RecordItemsResponse:
        dataset = self._found(request.dataset_name, context)
        schema = json.loads(dataset.input_schema_json or "{}")
        outcomes = []
        for item in request.items:
            value = json.loads(item.input_json)
            missing = [key for key in schema.get("required", ()) if key not in value]
            if missing:
                outcomes.append(ds.ItemOutcome(field=f"input_json.{missing[0]}", reason="is missing"))
            else:
                outcomes.append(ds.ItemOutcome(item_id=self._record_item(dataset, item)))
        return ds.RecordItemsResponse(outcomes=outcomes, version=dataset.version)

    def _record_item(self, dataset: ds.Dataset, item: DatasetItemRecorded) -> str:
        expected = json.loads(item.expected_output_json or "null")
        item_id = item.item_id or _hash(_canonical([json.loads(item.input_json), expected]))
        made = ds.DatasetItem(
            item_id=item_id,
            input_json=item.input_json,
            expected_output_json=item.expected_output_json,
            metadata_json=item.metadata_json,
            source_trace_id=item.source_trace_id.hex(),
            source_span_id=item.source_span_id.hex(),
            splits=sorted(item.splits),
            author=item.author,
        )
        self._replace(dataset, made)
        return item_id

    def _replace(self, dataset: ds.Dataset, made: ds.DatasetItem) -> None:
        present = next((it for it in self._now(dataset.name, dataset.version) if it.item_id == made.item_id), None)
        if present is not None and _content(present) == _content(made):
            return
        dataset.version += 1
        made.version = dataset.version
        made.created_at.CopyFrom(present.created_at if present is not None else _now())
        made.changed_at.CopyFrom(_now())
        self._items.setdefault(dataset.name, []).append(made)

    def _archive_items(self, request: ds.ArchiveItemsRequest, context: Any) -> ds.ArchiveItemsResponse:
        dataset = self._found(request.dataset_name, context)
        for item in self._now(dataset.name, dataset.version):
            if item.item_id in request.item_ids:
                archived = ds.DatasetItem()
                archived.CopyFrom(item)
                archived.archived = True
                self._replace(dataset, archived)
        return ds.ArchiveItemsResponse(version=dataset.version)

    def _archive(self, request: ds.ArchiveDatasetRequest, context: Any) -> ds.ArchiveDatasetResponse:
        dataset = self._found(request.name, context)
        dataset.archived, dataset.version = True, dataset.version + 1
        return ds.ArchiveDatasetResponse(version=dataset.version)

    def _get(self, request: ds.GetDatasetRequest, context: Any) -> ds.GetDatasetResponse:
        found = ds.Dataset()
        found.CopyFrom(self._found(request.dataset.name, context))
        found.version = self._version(request.dataset, found)
        found.item_count = sum(not item.archived for item in self._now(found.name, found.version))
        return ds.GetDatasetResponse(dataset=found)

    def _list_items(self, request: ds.ListItemsRequest, context: Any) -> ds.ListItemsResponse:
        dataset = self._found(request.dataset.name, context)
        version = self._version(request.dataset, dataset)
        items = [
            item
            for item in self._now(dataset.name, version)
            if (request.with_archived or not item.archived)
            and (not request.splits or set(request.splits) & set(item.splits))
            and (not request.item_ids or item.item_id in request.item_ids)
        ]
        begin, size = int(request.page_token or 0), request.page_size or 50
        following = str(begin + size) if begin + size < len(items) else ""
        return ds.ListItemsResponse(items=items[begin : begin + size], next_page_token=following, version=version)

    def _found(self, name: str, context: Any) -> ds.Dataset:
        if name not in self.datasets:
            context.abort(grpc.StatusCode.NOT_FOUND, f"the project has no dataset {name!r}")
        return self.datasets[name]

    def _now(self, name: str, version: int) -> list[ds.DatasetItem]:
        """The items as they were at a version, in the order in which they came."""
        items: dict[str, ds.DatasetItem] = {}
        for item in self._items.get(name, []):
            if item.version <= version:
                items[item.item_id] = item
        return list(items.values())

    def _version(self, selector: ds.DatasetSelector, dataset: ds.Dataset) -> int:
        if selector.WhichOneof("when") == "as_of":
            at = selector.as_of.ToNanoseconds()
            return max(
                (it.version for it in self._items[dataset.name] if it.changed_at.ToNanoseconds() <= at), default=1
            )
        return selector.version or dataset.version

    # --- Experiments ----------------------------------------------------------------------------------------------

    def finished(self, run_id: str) -> list[ExperimentItemFinished]:
        """What came of the items of a run: the first that was told of each."""
        first: dict[tuple[str, int], ExperimentItemFinished] = {}
        for event in list(self.events):
            told = event.experiment_item_finished
            if told.run_id == run_id:
                first.setdefault((told.item_id, told.repetition), told)
        return [first[key] for key in sorted(first)]

    def run(self, run_id: str) -> pb.ExperimentRun:
        """The run as it is."""
        run = pb.ExperimentRun()
        run.CopyFrom(self.runs[run_id])
        items = self.finished(run_id)
        run.items_finished, run.items_failed = len(items), sum(bool(item.error) for item in items)
        for event in list(self.events):
            if event.experiment_finished.run_id == run_id and run.state == pb.EXPERIMENT_STATE_RUNNING:
                run.state = pb.EXPERIMENT_STATE_COMPLETED
                run.run_evaluations.extend(event.experiment_finished.evaluations)
        return run

    def _start(self, request: pb.StartExperimentRequest, context: Any) -> pb.StartExperimentResponse:
        asked = request.experiment
        created = asked.run_id not in self.runs
        if created:
            self.runs[asked.run_id] = pb.ExperimentRun(request=asked, state=pb.EXPERIMENT_STATE_RUNNING)
        return pb.StartExperimentResponse(run=self.run(asked.run_id), created=created)

    def _resume(self, request: pb.ResumeExperimentRequest, context: Any) -> pb.ResumeExperimentResponse:
        self.runs[request.run_id].state = pb.EXPERIMENT_STATE_RUNNING
        return pb.ResumeExperimentResponse(run=self.run(request.run_id))

    def _get_run(self, request: pb.GetExperimentRequest, context: Any) -> pb.GetExperimentResponse:
        if request.run_id not in self.runs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"the project has no run {request.run_id!r}")
        return pb.GetExperimentResponse(run=self.run(request.run_id))

    def _list_finished(self, request: pb.ListExperimentItemsRequest, context: Any) -> pb.ListExperimentItemsResponse:
        items = [pb.ExperimentItem(result=item) for item in self.finished(request.run_id)]
        begin, size = int(request.page_token or 0), request.page_size or 50
        following = str(begin + size) if begin + size < len(items) else ""
        return pb.ListExperimentItemsResponse(items=items[begin : begin + size], next_page_token=following)

    def _compare(self, request: pb.CompareExperimentsRequest, context: Any) -> pb.CompareExperimentsResponse:
        runs = [self.run(run_id) for run_id in request.run_ids]
        return pb.CompareExperimentsResponse(baseline=self.run(request.baseline_run_id), runs=runs)

    # --- Inside ---------------------------------------------------------------------------------------------------

    def _handler(self, name: str, answer: Any, request_type: Any) -> Any:
        def handle(request: Any, context: Any) -> Any:
            with self._lock:
                self.asked[name] += 1
                self.sent.append(request)
                failing = self.failing
            if failing is not None:
                context.abort(failing, "as scripted")
            told = answer(request, context)
            if told.ByteSize() > self.most_bytes:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the answer is too large")
            return told

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=request_type.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


def scores_in(server: Collector) -> Iterator[Any]:
    """The scores that came, each id once, as the server keeps them: the last of an id."""
    last = {event.score_recorded.score_id: event.score_recorded for event in server.events if _is_score(event)}
    return iter(last.values())


def _is_score(event: Any) -> bool:
    return bool(event.WhichOneof("payload") == "score_recorded")


def _recorded(item: dict[str, Any]) -> DatasetItemRecorded:
    return DatasetItemRecorded(
        item_id=item.get("id", ""),
        input_json=json.dumps(item["input"]),
        expected_output_json=json.dumps(item["expected_output"]) if "expected_output" in item else "",
        metadata_json=json.dumps(item["metadata"]) if "metadata" in item else "",
        splits=item.get("splits", ()),
    )


def _content(item: ds.DatasetItem) -> tuple[Any, ...]:
    return (item.input_json, item.expected_output_json, item.metadata_json, tuple(item.splits), item.archived)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
