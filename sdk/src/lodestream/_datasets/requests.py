"""Requests to the server's DatasetService.

Each change, sent again, changes nothing, so it may be sent until it is answered.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message
from lodestream_evals.strict_json import NotJsonError, strict_json, strict_object
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated, DatasetItemRecorded
from lodestream_proto.v1.query_pb2 import WaitFor

from lodestream._datasets.dataset import Dataset, DatasetItem, Items, Page, RecordedItems, RefusedItem, Runner
from lodestream._datasets.errors import (
    DatasetError,
    DatasetItemsRefusedError,
    DatasetNotFoundError,
    DatasetRefusedError,
    DatasetUnavailableError,
)
from lodestream._datasets.messages import dataset_from, item_from, item_message
from lodestream._delivery.channel import FailureKind, RpcChannel, RpcError, call_with_retries
from lodestream._settings import MIB, author

MOST_ITEMS, MOST_BYTES = 1_000, 4 * MIB
"""What one call sends at most."""
_RETRIES, _SECONDS = 4, 15.0
_PAGE_RETRIES = 3
_OURS = {"input_json": "input", "expected_output_json": "expected_output", "metadata_json": "metadata",
         "source_span_id": "source_observation_id", "item_id": "id"}  # fmt: skip
M = TypeVar("M", bound=Message)


def create(
    channel: RpcChannel, name: str, *, description: str, metadata: Any, input_schema: Any, expected_output_schema: Any
) -> pb.CreateDatasetResponse:
    """The dataset, made or described anew.

    Raises DatasetError.
    """
    try:
        created = DatasetCreated(
            name=name,
            description=description,
            metadata_json=strict_object(metadata, "metadata"),
            input_schema_json="" if input_schema is None else strict_json(input_schema, "input_schema"),
            expected_output_schema_json=""
            if expected_output_schema is None
            else strict_json(expected_output_schema, "expected_output_schema"),
            author=author(),
        )
    except NotJsonError as error:
        raise DatasetRefusedError(str(error), field=error.field, reason=error.reason) from None
    return call_dataset_service(
        channel, "CreateDataset", pb.CreateDatasetRequest(dataset=created), pb.CreateDatasetResponse
    )


def record_items(
    channel: RpcChannel, dataset_name: str, rows: Iterable[Mapping[str, Any]]
) -> tuple[RecordedItems, str]:
    """Store rows, as many a call as it takes; also gives the position of the last.

    Raises DatasetItemsRefusedError when all is done and some were refused, DatasetError when it could not be done.
    """
    ids: dict[int, str] = {}
    refused: list[RefusedItem] = []
    version, position = 0, ""
    for numbers, messages in _calls(_messages(rows, refused)):
        request = pb.RecordItemsRequest(dataset_name=dataset_name, items=messages)
        answer = call_dataset_service(channel, "RecordItems", request, pb.RecordItemsResponse)
        version, position = max(version, answer.version), answer.position or position
        for number, outcome in zip(numbers, answer.outcomes, strict=True):
            if outcome.field or outcome.reason:
                refused.append(RefusedItem(number, our_field(outcome.field), outcome.reason))
            else:
                ids[number] = outcome.item_id
    count = 1 + max((*ids, *(each.row for each in refused)), default=-1)
    recorded = RecordedItems(tuple(ids.get(number, "") for number in range(count)), version)
    if refused:
        raise DatasetItemsRefusedError(dataset_name, sorted(refused, key=lambda each: each.row), recorded)
    return recorded, position


def archive_items(channel: RpcChannel, dataset_name: str, item_ids: Sequence[str]) -> pb.ArchiveItemsResponse:
    """Later versions don't have them.

    Raises DatasetError.
    """
    answer = pb.ArchiveItemsResponse()
    for begin in range(0, len(item_ids), MOST_ITEMS):
        ids = item_ids[begin : begin + MOST_ITEMS]
        request = pb.ArchiveItemsRequest(dataset_name=dataset_name, item_ids=ids, author=author())
        answer = call_dataset_service(channel, "ArchiveItems", request, pb.ArchiveItemsResponse)
    return answer


def archive(channel: RpcChannel, name: str) -> pb.ArchiveDatasetResponse:
    """Archive a dataset: it is listed no more.

    Raises DatasetError.
    """
    request = pb.ArchiveDatasetRequest(name=name, author=author())
    return call_dataset_service(channel, "ArchiveDataset", request, pb.ArchiveDatasetResponse)


def call_dataset_service(channel: RpcChannel, method: str, request: Message, response: type[M]) -> M:
    """The answer of the server's DatasetService.

    Raises DatasetError.
    """
    try:
        return response.FromString(
            call_with_retries(channel, f"DatasetService/{method}", request, retries=_RETRIES, timeout=_SECONDS)
        )
    except RpcError as error:
        raise error_of(error) from None


def error_of(error: RpcError) -> DatasetError:
    """What an answer means that is none."""
    if error.status == "NOT_FOUND":
        return DatasetNotFoundError(error.details)
    if error.kind is FailureKind.PERMANENT and error.status != "RESOURCE_EXHAUSTED":
        field, colon, reason = error.details.partition(": ")
        field = our_field(field.removeprefix("dataset.")) if colon and " " not in field else ""
        return DatasetRefusedError(error.details, field=field, reason=reason if field else error.details)
    return DatasetUnavailableError(str(error))


def our_field(path: str) -> str:
    """A path of the contract's, as the arguments are called."""
    parts = path.removesuffix("_json") if path.endswith("schema_json") else path
    first, dot, rest = parts.partition(".")
    name, bracket, place = first.partition("[")
    return f"{_OURS.get(name, name)}{bracket}{place}{dot}{rest}"


def _messages(
    rows: Iterable[Mapping[str, Any]], refused: list[RefusedItem]
) -> Iterator[tuple[int, DatasetItemRecorded]]:
    recorded_by = author()
    for number, row in enumerate(rows):
        try:
            yield number, item_message(row, recorded_by)
        except NotJsonError as error:
            refused.append(RefusedItem(number, error.field, error.reason))
        except (TypeError, ValueError) as error:
            refused.append(RefusedItem(number, "", f"{row!r:.100} is no item: {error}"))


def _calls(
    messages: Iterable[tuple[int, DatasetItemRecorded]],
) -> Iterator[tuple[list[int], list[DatasetItemRecorded]]]:
    numbers: list[int] = []
    gathered: list[DatasetItemRecorded] = []
    size = 0
    for number, message in messages:
        weight = message.ByteSize()
        if gathered and (len(gathered) == MOST_ITEMS or size + weight > MOST_BYTES):
            yield numbers, gathered
            numbers, gathered, size = [], [], 0
        numbers.append(number)
        gathered.append(message)
        size += weight
    if gathered:
        yield numbers, gathered


_PAGE = 500


def get_dataset(
    channel: RpcChannel,
    selector: pb.DatasetSelector,
    *,
    splits: Iterable[str] = (),
    runner: Runner,
) -> Dataset:
    """The dataset at the version that the selector means now.

    Raises DatasetError.
    """
    dataset = call_dataset_service(
        channel, "GetDataset", pb.GetDatasetRequest(dataset=selector), pb.GetDatasetResponse
    ).dataset
    pinned = selector.WhichOneof("when") is not None
    return open_dataset(channel, dataset, splits=splits, pinned=pinned, runner=runner)


def open_dataset(
    channel: RpcChannel,
    message: pb.Dataset,
    *,
    splits: Iterable[str] = (),
    pinned: bool = False,
    runner: Runner,
) -> Dataset:
    """A dataset whose items are asked for when they are looked at."""
    pages = _Pages(channel, message.name, message.version, tuple(splits))

    def at(version: int) -> Dataset:
        return get_dataset(
            channel, pb.DatasetSelector(name=message.name, version=version), splits=pages.splits, runner=runner
        )

    return dataset_from(
        message,
        items=Items(pages.fetch, None if pages.splits else message.item_count),
        splits=pages.splits,
        pinned=pinned,
        _reopen=at,
        _runner=runner,
    )


def get_item(channel: RpcChannel, dataset_name: str, item_id: str, position: str) -> DatasetItem:
    """The item as it is now, archived or not.

    Raises DatasetError.
    """
    request = pb.ListItemsRequest(
        dataset=pb.DatasetSelector(name=dataset_name),
        item_ids=[item_id],
        with_archived=True,
        wait_for=WaitFor(position=position) if position else None,
    )
    answer = call_dataset_service(channel, "ListItems", request, pb.ListItemsResponse)
    return item_from(answer.items[0], dataset_name)


class _Pages:
    """The pages of the items of one version."""

    def __init__(self, channel: RpcChannel, name: str, version: int, splits: tuple[str, ...]) -> None:
        self._channel, self._name, self._version, self.splits = channel, name, version, splits
        self._size = _PAGE

    def fetch(self, token: str) -> Page:
        """Raises DatasetError. Pages that are too large for one answer become smaller."""
        while True:
            request = pb.ListItemsRequest(
                dataset=pb.DatasetSelector(name=self._name, version=self._version),
                splits=self.splits,
                page_size=self._size,
                page_token=token,
            )
            try:
                answer = call_with_retries(
                    self._channel, "DatasetService/ListItems", request, retries=_PAGE_RETRIES, timeout=_SECONDS
                )
            except RpcError as error:
                too_large = error.status == "RESOURCE_EXHAUSTED" and error.retry_after is None
                if not too_large or self._size == 1:
                    raise error_of(error) from None
                self._size = max(self._size // 4, 1)
                continue
            page = pb.ListItemsResponse.FromString(answer)
            return [item_from(item, self._name) for item in page.items], page.next_page_token
