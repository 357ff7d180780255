"""What the client offers for datasets."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lodestream._arguments import require_list, texts_of
from lodestream._datasets.errors import DatasetRefusedError, DatasetUnavailableError
from lodestream._experiments.methods import ExperimentMethods

if TYPE_CHECKING:
    from lodestream._datasets.dataset import Dataset, DatasetItem, ItemStatus, RecordedItems
    from lodestream._delivery.channel import RpcChannel


class DatasetMethods(ExperimentMethods):
    """Each asks the server and waits for its answer; each raises DatasetError when there is none, or it is no."""

    def create_dataset(
        self,
        name: str,
        *,
        description: str = "",
        metadata: Any = None,
        input_schema: Mapping[str, Any] | bool | None = None,
        expected_output_schema: Mapping[str, Any] | bool | None = None,
    ) -> "Dataset":
        """Make a dataset, or describe the one of that name anew; one that was archived is back.

        The schemas (JSON Schema) bind what is recorded from now on.
        """
        from lodestream._datasets import requests

        channel = self._to_ask()
        created = requests.create(
            channel, name, description=description, metadata=metadata, input_schema=input_schema,
            expected_output_schema=expected_output_schema,
        )  # fmt: skip
        return requests.open_dataset(channel, created.dataset, client=self)

    def get_dataset(
        self,
        name: str,
        *,
        version: int | dt.datetime | None = None,
        as_of: dt.datetime | None = None,
        splits: Sequence[str] = (),
    ) -> "Dataset":
        """The dataset as it is, at a version, or as it was at an instant; only items with any of `splits`, if given."""
        from lodestream._datasets import requests
        from lodestream._datasets.messages import selector_of

        if version is not None and as_of is not None:
            raise ValueError("get_dataset takes a version or an instant, not both")
        if isinstance(version, dt.datetime):
            version, as_of = None, version
        chosen = texts_of(splits, "splits")
        return requests.get_dataset(self._to_ask(), selector_of(name, version, as_of), splits=chosen, client=self)

    def create_dataset_item(
        self,
        *,
        dataset_name: str,
        input: Any,  # noqa: A002 - the name that callers know
        expected_output: Any = None,
        metadata: Any = None,
        id: str | None = None,  # noqa: A002
        source_trace_id: str | None = None,
        source_observation_id: str | None = None,
        splits: Sequence[str] = (),
        status: "ItemStatus" = "ACTIVE",
    ) -> "DatasetItem":
        """Add an item; with the id of one that is there, change it. Without an id, equal content is the same item.

        Anything that JSON can say: dataclasses, pydantic's models and datetimes are written out. What it can't (NaN,
        an object) is refused with its place.
        """
        from lodestream._datasets import requests

        if status not in ("ACTIVE", "ARCHIVED"):
            raise DatasetRefusedError(f"status: {status!r} is neither ACTIVE nor ARCHIVED", field="status")
        row = {
            "id": id,
            "input": input,
            "expected_output": expected_output,
            "metadata": metadata,
            "source_trace_id": source_trace_id,
            "source_observation_id": source_observation_id,
            "splits": splits,
        }
        channel = self._to_ask()
        recorded, position = requests.record_items(channel, dataset_name, [row])
        (item_id,) = recorded.item_ids
        if status == "ARCHIVED":
            position = requests.archive_items(channel, dataset_name, [item_id]).position
        return requests.get_item(channel, dataset_name, item_id, position)

    def create_dataset_items(self, dataset_name: str, items: Iterable[Mapping[str, Any]]) -> "RecordedItems":
        """Add or change many: mappings with the arguments of `create_dataset_item`, at most 1,000 sent at a time.

        When some are refused, DatasetItemsRefusedError lists them with their reasons; the others are stored then.
        """
        from lodestream._datasets import requests

        require_list(items, "items")
        return requests.record_items(self._to_ask(), dataset_name, items)[0]

    def archive_dataset_items(self, dataset_name: str, item_ids: Sequence[str]) -> int:
        """Later versions, from the one it gives on, don't have these items; earlier ones keep them."""
        from lodestream._datasets import requests

        chosen = texts_of(item_ids, "item_ids")
        return requests.archive_items(self._to_ask(), dataset_name, chosen).version

    def archive_dataset(self, name: str) -> int:
        """It is listed no more; its versions and runs stay. Gives its version. Created again, it is back."""
        from lodestream._datasets import requests

        return requests.archive(self._to_ask(), name).version

    def _to_ask(self) -> "RpcChannel":
        if not self._delivers:
            raise DatasetUnavailableError(OFF)
        return self._channel


OFF = "there is no server to ask: set LODESTREAM_PUBLIC_KEY and LODESTREAM_SECRET_KEY"
