"""Items made from rows, checked, and sent in batches."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import DatasetItemRecorded

from services.edge.cli.connection import Gateway
from services.edge.cli.dataset_files import RefusedRow, Row, members

_EXPECTED = ("expected_output", "expected")
_IDS = ("id", "item_id")
_SPLITS = ("splits", "split")
_WHOLE = {"input", "metadata", "source_trace_id", "source_span_id", *_EXPECTED, *_IDS, *_SPLITS}
_NO_DATASET = "0" * 32
_NO_ID = "none yet"
MOST_ITEMS = 1_000
MOST_BYTES = 4 * 1024 * 1024
_TRIES = 6


@dataclass(frozen=True, slots=True)
class Part:
    """A column, and the name that it has in the object it goes into."""

    name: str
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """Where the parts of an item come from. Without an `input`, columns are what they are called."""

    input: Sequence[Part] = ()
    expected: Sequence[Part] = ()
    metadata: Sequence[Part] = ()
    item_id: str = ""
    split: str = ""
    bare_input: bool = False
    """A single column is the input itself, not an object with one member."""
    splits: Sequence[str] = ()
    """Splits that every item gets."""
    author: str = ""

    @property
    def columns(self) -> list[str]:
        """The columns that options name."""
        parts = [part.column for part in (*self.input, *self.expected, *self.metadata)]
        return [*parts, *filter(None, (self.item_id, self.split))]

    @property
    def whole(self) -> bool:
        """Whether columns are taken by their names, for lack of an input."""
        return not self.input


class MappingError(Exception):
    """The columns do not fit the file. The message is for the user."""


def part(text: str) -> Part:
    """`question`, or `question=Frage` for another name in the item."""
    name, equals, column = text.partition("=")
    return Part(name, column) if equals else Part(text, text)


def check_columns(mapping: Mapping, columns: Iterable[str]) -> list[str]:
    """The columns that no part of an item uses.

    Raises MappingError for a named column that does not exist, and where nothing is the input.
    """
    present = list(columns)
    has = ", ".join(map(repr, present)) or "none"
    for column in mapping.columns:
        if column not in present:
            raise MappingError(f"there is no column {column!r}; the file has: {has}")
    if mapping.whole and "input" not in present:
        raise MappingError(f"name the columns of the input with --input COLUMN; the file has: {has}")
    taken = set(mapping.columns) | (_WHOLE if mapping.whole else set())
    return [column for column in present if column not in taken]


def item_of(row: Row, mapping: Mapping) -> DatasetItemRecorded | RefusedRow:
    """The item of a row, checked as far as that needs no dataset, with its id."""
    try:
        item = _item(row, mapping)
    except (MappingError, ValueError, RecursionError) as error:
        return RefusedRow(row.line, str(error))
    fault = fault_of(item)
    return RefusedRow(row.line, fault) if fault else item


def _item(row: Row, mapping: Mapping) -> DatasetItemRecorded:
    item = DatasetItemRecorded(author=mapping.author)
    fields = row.fields
    if mapping.whole:
        if "input" not in fields:
            raise MappingError("has no input")
        item.input_json = fields["input"]
        expected = next((name for name in _EXPECTED if name in fields and name not in row.blank), "")
        item.expected_output_json = fields.get(expected, "")
        item.metadata_json = _object(fields.get("metadata", ""), "metadata")
        item.source_trace_id = _hex(_first(row, ("source_trace_id",)), "source_trace_id")
        item.source_span_id = _hex(_first(row, ("source_span_id",)), "source_span_id")
        item.item_id = _first(row, _IDS)
        item.splits[:] = _splits(row, _SPLITS)
    else:
        item.input_json = _from_columns(row, mapping.input, bare=mapping.bare_input)
    if mapping.expected:
        blank = all(part.column in row.blank for part in mapping.expected)
        item.expected_output_json = "" if blank else _from_columns(row, mapping.expected, bare=True)
    if mapping.metadata:
        existing = dict(members(item.metadata_json)) if item.metadata_json else {}
        added = {part.name: _field(row, part.column) for part in mapping.metadata if part.column not in row.blank}
        item.metadata_json = _json_object({**existing, **added})
    if mapping.item_id:
        item.item_id = _first(row, (mapping.item_id,))
    if mapping.split:
        item.splits[:] = _splits(row, (mapping.split,))
    item.splits[:] = sorted({*item.splits, *mapping.splits})
    return item


def _from_columns(row: Row, parts: Sequence[Part], *, bare: bool) -> str:
    if bare and len(parts) == 1:
        return _field(row, parts[0].column)
    return _json_object({part.name: _field(row, part.column) for part in parts})


def _field(row: Row, column: str) -> str:
    if column not in row.fields:
        raise MappingError(f"has no {column!r}")
    return row.fields[column]


def _json_object(fields: dict[str, str]) -> str:
    """A JSON object made of JSON texts, each left as it is."""
    return "{" + ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {text}" for name, text in fields.items()) + "}"


def _object(json_text: str, what: str) -> str:
    """The text of an object; a CSV file has it in a string."""
    if json_text in {"", '""', "null"}:
        return ""
    value = json.loads(json_text)
    if isinstance(value, str):
        try:
            inner = json.loads(value)
        except ValueError:
            raise MappingError(f"{what} is not a JSON object: {value[:60]!r}") from None
        json_text, value = value, inner
    if not isinstance(value, dict):
        raise MappingError(f"{what} is not a JSON object")
    return json_text


def _first(row: Row, names: Iterable[str]) -> str:
    """The text of the first of these columns that has any; a number as it is written."""
    for name in names:
        written = row.fields.get(name, "")
        if not written or name in row.blank or written == "null":
            continue
        value = json.loads(written)
        if isinstance(value, str):
            return value
        if isinstance(value, dict | list):
            raise MappingError(f"{name} is not a text")
        return written
    return ""


def _splits(row: Row, names: Iterable[str]) -> list[str]:
    """A list, or a text with commas between them."""
    for name in names:
        written = row.fields.get(name, "")
        if not written or name in row.blank or written == "null":
            continue
        value = json.loads(written)
        if isinstance(value, str) and value.startswith("["):
            value = json.loads(value)
        if isinstance(value, str):
            value = [each.strip() for each in value.split(",") if each.strip()]
        if not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            raise MappingError(f"{name} is neither a text nor a list of texts")
        return sorted(set(value))
    return []


def _hex(text: str, name: str) -> bytes:
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})*", text):
        raise MappingError(f"{name} is not written in hex digits")
    return bytes.fromhex(text)


def fault_of(item: DatasetItemRecorded) -> str:
    """Check an item as far as possible without its dataset, and give it an id if it has none.

    Returns what is wrong with it, or an empty text.
    """
    # The rules come with what a server needs: only those who import items wait for them.
    from shared.rules.datasets import check_item
    from shared.rules.experiment_ids import item_id_of
    from shared.runtime.refusal import InvalidError

    item_id, item.item_id, item.dataset_id = item.item_id, item.item_id or _NO_ID, _NO_DATASET
    try:
        check_item(item, "item")
        item.item_id = item_id or item_id_of(item.input_json, item.expected_output_json)
    except InvalidError as invalid:
        return f"{invalid.field.removeprefix('item').removeprefix('.') or 'the item'} {invalid.why}"
    except (ValueError, RecursionError) as error:  # a number that is beyond all bounds
        return f"has no id: {error}"
    item.dataset_id = ""
    return ""


@dataclass(frozen=True, slots=True)
class NumberedItem:
    """An item, and the line it comes from."""

    line: int
    item: DatasetItemRecorded


@dataclass(slots=True)
class Tally:
    """Counts of the items stored and refused so far."""

    stored: int = 0
    refused: list[RefusedRow] = field(default_factory=list)
    version: int = 0
    """The dataset's version after the last batch."""
    position: str = ""
    line: int = 0
    """The last one whose item is in."""


def batches(items: Iterable[NumberedItem]) -> Iterator[list[NumberedItem]]:
    """Split items into batches of at most 1,000 items and 4 MiB."""
    batch: list[NumberedItem] = []
    size = 0
    for placed in items:
        more = placed.item.ByteSize()
        if batch and (len(batch) == MOST_ITEMS or size + more > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(placed)
        size += more
    if batch:
        yield batch


def record(gateway: Gateway, dataset: str, batch: Sequence[NumberedItem], tally: Tally) -> list[RefusedRow]:
    """Store a batch, and return the rows that the dataset refused. Raises CliError."""
    request = pb.RecordItemsRequest(dataset_name=dataset, items=[placed.item for placed in batch])
    response = gateway.call(gateway.datasets.RecordItems, request, tries=_TRIES)
    refused = [
        RefusedRow(placed.line, f"{outcome.field} {outcome.reason}")
        for placed, outcome in zip(batch, response.outcomes, strict=True)
        if outcome.field or outcome.reason
    ]
    tally.stored += len(batch) - len(refused)
    tally.version, tally.position = response.version, response.position or tally.position
    tally.line = batch[-1].line
    return refused


class SeenItems:
    """The items imported so far, by id, to find rows that repeat one."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[int, int]] = {}

    def earlier(self, placed: NumberedItem) -> RefusedRow | bool:
        """False for a new id, True for an identical item, else the refusal of a different one."""
        digest = hash(placed.item.SerializeToString(deterministic=True))
        line, digest_before = self._first.setdefault(placed.item.item_id, (placed.line, digest))
        if line == placed.line:
            return False
        if digest_before == digest:
            return True
        return RefusedRow(placed.line, f"has the id {placed.item.item_id!r} of line {line}, but different content")
