"""What an experiment runs over: items of a dataset, or data of the program's."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lodestream_evals.strict_json import NotJsonError, canonical_json, plain

from lodestream._datasets.dataset import Dataset, DatasetItem
from lodestream._experiments.errors import ExperimentRefusedError

_MAX_ID_BYTES = 255
_FIELDS = ("input", "expected_output", "metadata", "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An item, however it came."""

    id: str
    given: Any
    """What the program gave, or a DatasetItem."""
    input: Any
    expected_output: Any = None
    metadata: Any = None

    def fresh(self) -> "Row":
        """Copy the row with lists and dicts of its own, for functions that change what they are given."""
        given = self.given
        values = {name: _copied(getattr(self, name)) for name in ("input", "expected_output", "metadata")}
        if isinstance(given, DatasetItem):
            given = replace(given, **values)
        return Row(id=self.id, given=_copied(given), **values)


def rows_of(data: Any) -> list[Row]:
    """The items.

    Raises ExperimentRefusedError naming the one that makes no sense, DatasetError when they can't be had.
    """
    if isinstance(data, Dataset):
        return [_row(item.id, item, item.input, item.expected_output, item.metadata) for item in data]
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        raise ExperimentRefusedError(f"data is a Dataset or a list of items, not {type(data).__name__}")
    rows, copies, taken = [], Counter[str](), set[str]()
    for number, item in enumerate(data):
        row = _local_row(item, f"data[{number}]", copies)
        if row.id in taken:
            raise ExperimentRefusedError(f"data[{number}].id: {row.id!r} is the id of another item too")
        taken.add(row.id)
        rows.append(row)
    return rows


def content_id(input: Any, expected_output: Any, *beside: int) -> str:  # noqa: A002
    """Return the id of an item that has no other, made of what it says.

    Raises NotJsonError.
    """
    content = canonical_json([plain(input, "input"), plain(expected_output, "expected_output"), *beside], "item")
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _copied(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if type(value) is list else value


def check_id(item_id: str) -> None:
    """Raises NotJsonError when the server takes no item of this id."""
    plain(item_id, "id")
    if len(item_id.encode()) > _MAX_ID_BYTES or not item_id.isprintable():
        raise NotJsonError("id", f"{item_id[:100]!r} is no id: at most {_MAX_ID_BYTES} bytes, no control characters")


def _row(item_id: str, given: Any, input: Any, expected_output: Any, metadata: Any) -> Row:  # noqa: A002
    return Row(id=item_id, given=given, input=input, expected_output=expected_output, metadata=metadata)


def _local_row(item: Any, place: str, copies: Counter[str]) -> Row:
    if isinstance(item, Mapping):
        fields = {name: item.get(name) for name in _FIELDS}
        has_input = "input" in item
    else:
        fields = {name: getattr(item, name, None) for name in _FIELDS}
        has_input = hasattr(item, "input")
    if not has_input:
        raise ExperimentRefusedError(f"{place}.input: is missing; an item is a dict with an input, or a DatasetItem")
    try:
        plain(fields["metadata"], "metadata")
        content = content_id(fields["input"], fields["expected_output"])
        item_id = str(fields["id"] or "") or content
        if not fields["id"]:
            copies[content] += 1
            if copies[content] > 1:  # said twice, it is two items
                item_id = content_id(fields["input"], fields["expected_output"], copies[content])
        check_id(item_id)
    except NotJsonError as error:
        raise ExperimentRefusedError(f"{place}.{error}") from None
    return _row(item_id, item, fields["input"], fields["expected_output"], fields["metadata"])
