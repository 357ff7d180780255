"""Looking at datasets: one version, and its items by pages."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.query_pb2 import WaitFor

from lodestream._datasets.dataset import Dataset, DatasetItem
from lodestream._datasets.items import Items, Page
from lodestream._datasets.messages import dataset_from, item_from
from lodestream._datasets.requests import asked, refusal_of
from lodestream._delivery.asking import ask
from lodestream._delivery.channel import Line, LineError

if TYPE_CHECKING:
    from lodestream._experiments.methods import ExperimentMethods

_PAGE = 500
_RETRIES, _SECONDS = 3, 15.0


def get(
    line: Line,
    selector: pb.DatasetSelector,
    *,
    splits: Iterable[str] = (),
    client: "ExperimentMethods",
) -> Dataset:
    """The dataset at the version that the selector means now.

    Raises DatasetError.
    """
    found = asked(line, "GetDataset", pb.GetDatasetRequest(dataset=selector), pb.GetDatasetResponse).dataset
    pinned = selector.WhichOneof("when") is not None
    return opened(line, found, splits=splits, pinned=pinned, client=client)


def opened(
    line: Line,
    found: pb.Dataset,
    *,
    splits: Iterable[str] = (),
    pinned: bool = False,
    client: "ExperimentMethods",
) -> Dataset:
    """A dataset whose items are asked for when they are looked at."""
    pages = _Pages(line, found.name, found.version, tuple(splits))

    def at(version: int) -> Dataset:
        return get(line, pb.DatasetSelector(name=found.name, version=version), splits=pages.splits, client=client)

    return dataset_from(
        found,
        items=Items(pages.ask, None if pages.splits else found.item_count),
        splits=pages.splits,
        pinned=pinned,
        reopen=at,
        client=client,
    )


def get_item(line: Line, dataset_name: str, item_id: str, position: str) -> DatasetItem:
    """The item as it is now, archived or not.

    Raises DatasetError.
    """
    request = pb.ListItemsRequest(
        dataset=pb.DatasetSelector(name=dataset_name),
        item_ids=[item_id],
        with_archived=True,
        wait_for=WaitFor(position=position) if position else None,
    )
    answer = asked(line, "ListItems", request, pb.ListItemsResponse)
    return item_from(answer.items[0], dataset_name)


class _Pages:
    """Of the items of one version."""

    def __init__(self, line: Line, name: str, version: int, splits: tuple[str, ...]) -> None:
        self._line, self._name, self._version, self.splits = line, name, version, splits
        self._size = _PAGE

    def ask(self, token: str) -> Page:
        """Raises DatasetError. Pages that are too large for one answer become smaller."""
        while True:
            request = pb.ListItemsRequest(
                dataset=pb.DatasetSelector(name=self._name, version=self._version),
                splits=self.splits,
                page_size=self._size,
                page_token=token,
            )
            try:
                answer = ask(self._line, "DatasetService/ListItems", request, retries=_RETRIES, timeout=_SECONDS)
            except LineError as error:
                too_large = error.status == "RESOURCE_EXHAUSTED" and error.retry_after is None
                if not too_large or self._size == 1:
                    raise refusal_of(error) from None
                self._size = max(self._size // 4, 1)
                continue
            page = pb.ListItemsResponse.FromString(answer)
            return [item_from(item, self._name) for item in page.items], page.next_page_token
