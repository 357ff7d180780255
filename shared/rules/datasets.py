"""What of an event about a dataset can't be taken, whatever the dataset's history is. Pure.

| what | at most |
|---|---|
| a dataset's name, a split, an author | 255, 100, 255 characters |
| an item's id | 255 bytes |
| splits of an item, or of a run | 50 |
| an item with all that belongs to it; a schema; metadata | 1 MiB; 256 KiB; 64 KiB |
| lists and objects within each other in JSON | 64 |

The gateway takes no more than 100,000 names and values in the JSON texts of one payload besides.
"""

import re
from collections.abc import Sequence

from lodestream_proto.v1.experiment_event_pb2 import (
    DatasetArchived,
    DatasetCreated,
    DatasetItemArchived,
    DatasetItemRecorded,
)

from shared.rules.experiment_ids import dataset_id_of
from shared.rules.json_texts import check_json, check_json_object, values_in
from shared.rules.texts import check_bytes_id, check_id, check_line, check_text
from shared.runtime.refusal import InvalidError

MAX_NAME, MAX_AUTHOR, MAX_DESCRIPTION = 255, 255, 16_384
MAX_ITEM_BYTES = 1024 * 1024
MAX_SCHEMA_BYTES, MAX_METADATA_BYTES = 256 * 1024, 64 * 1024
MAX_SPLITS, MAX_SPLIT = 50, 100
_DATASET_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


def check_dataset(created: DatasetCreated, path: str) -> None:
    """Raises InvalidError when no dataset can be described so. The schemas are only JSON here."""
    check_dataset_name(created.name, f"{path}.name")
    if created.dataset_id != dataset_id_of(created.name):
        raise InvalidError(f"{path}.dataset_id", "does not follow from the name")
    check_text(created.description, f"{path}.description", least=0, most=MAX_DESCRIPTION)
    check_metadata(created.metadata_json, f"{path}.metadata_json")
    for field in ("input_schema_json", "expected_output_schema_json"):
        if schema := getattr(created, field):
            check_json(schema, f"{path}.{field}", most=MAX_SCHEMA_BYTES)
    check_author(created.author, f"{path}.author")


def check_item(item: DatasetItemRecorded, path: str) -> None:
    """Raises InvalidError when no dataset can have this item."""
    if (size := item.ByteSize()) > MAX_ITEM_BYTES:
        raise InvalidError(path, f"has {size} bytes; at most {MAX_ITEM_BYTES} are taken")
    check_dataset_id(item.dataset_id, f"{path}.dataset_id")
    check_id(item.item_id, f"{path}.item_id")
    check_json(item.input_json, f"{path}.input_json", most=MAX_ITEM_BYTES)
    if item.expected_output_json:
        check_json(item.expected_output_json, f"{path}.expected_output_json", most=MAX_ITEM_BYTES)
    check_metadata(item.metadata_json, f"{path}.metadata_json")
    check_bytes_id(item.source_trace_id, f"{path}.source_trace_id", size=16)
    check_bytes_id(item.source_span_id, f"{path}.source_span_id", size=8)
    if item.source_span_id and not item.source_trace_id:
        raise InvalidError(f"{path}.source_span_id", "is without the source_trace_id of its trace")
    check_splits(item.splits, f"{path}.splits")
    check_author(item.author, f"{path}.author")


def check_item_archival(archived: DatasetItemArchived, path: str) -> None:
    """Raises InvalidError when no item can be archived by it."""
    check_dataset_id(archived.dataset_id, f"{path}.dataset_id")
    check_id(archived.item_id, f"{path}.item_id")
    check_author(archived.author, f"{path}.author")


def check_dataset_archival(archived: DatasetArchived, path: str) -> None:
    """Raises InvalidError when no dataset can be archived by it."""
    check_dataset_id(archived.dataset_id, f"{path}.dataset_id")
    check_author(archived.author, f"{path}.author")


def check_dataset_name(name: str, path: str) -> None:
    """Raises InvalidError when no dataset can have this name."""
    check_line(name, path, most=MAX_NAME)


def check_dataset_id(dataset_id: str, path: str) -> None:
    """Raises InvalidError when no dataset can have this id."""
    if not _DATASET_ID.fullmatch(dataset_id):
        raise InvalidError(path, "is no 32 hex digits in lower case")


def check_splits(splits: Sequence[str], path: str) -> None:
    """Raises InvalidError when no item can be of these splits."""
    if len(splits) > MAX_SPLITS:
        raise InvalidError(path, f"are {len(splits)}; at most {MAX_SPLITS} are taken")
    for n, split in enumerate(splits):
        check_line(split, f"{path}[{n}]", most=MAX_SPLIT)


def check_metadata(metadata_json: str, path: str) -> None:
    """Raises InvalidError when it is neither empty nor a JSON object that databases take: without NUL characters."""
    value = check_json_object(metadata_json, path, most=MAX_METADATA_BYTES)
    if any(isinstance(part, str) and "\0" in part for part in values_in(value)):
        raise InvalidError(path, "has a NUL character")


def check_author(author: str, path: str) -> None:
    """Raises InvalidError when nobody can be called so."""
    check_line(author, path, least=0, most=MAX_AUTHOR)
