"""Datasets from and to the contract's messages."""

import datetime as dt
import json
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_evals.strict_json import NotJsonError, strict_json, strict_object
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import DatasetItemRecorded

from lodestream._arguments import texts_of
from lodestream._datasets.dataset import Dataset, DatasetItem
from lodestream._ids import parse_id


def selector_of(name: str, version: int | None, as_of: dt.datetime | None) -> pb.DatasetSelector:
    """A dataset as it is, as it was at a version, or at an instant."""
    if version is not None:
        return pb.DatasetSelector(name=name, version=version)
    if as_of is not None:
        instant = Timestamp()
        instant.FromDatetime(as_of.astimezone(dt.UTC))
        return pb.DatasetSelector(name=name, as_of=instant)
    return pb.DatasetSelector(name=name)


def dataset_from(message: pb.Dataset, **beside: Any) -> Dataset:
    """The dataset that a message is."""
    return Dataset(
        id=message.dataset_id,
        name=message.name,
        version=message.version,
        description=message.description,
        metadata=decoded(message.metadata_json),
        input_schema=decoded(message.input_schema_json),
        expected_output_schema=decoded(message.expected_output_schema_json),
        all_splits=tuple(message.splits),
        archived=message.archived,
        created_at=instant_of(message.created_at),
        updated_at=instant_of(message.changed_at),
        **beside,
    )


def item_from(message: pb.DatasetItem, dataset_name: str) -> DatasetItem:
    """The item that a message is."""
    return DatasetItem(
        id=message.item_id,
        input=decoded(message.input_json),
        expected_output=decoded(message.expected_output_json),
        metadata=decoded(message.metadata_json),
        splits=tuple(message.splits),
        source_trace_id=message.source_trace_id or None,
        source_observation_id=message.source_span_id or None,
        status="ARCHIVED" if message.archived else "ACTIVE",
        dataset_name=dataset_name,
        version=message.version,
        created_at=instant_of(message.created_at),
        updated_at=instant_of(message.changed_at),
        author=message.author,
    )


def item_message(row: Any, author: str) -> DatasetItemRecorded:
    """A row, which has the arguments of `create_dataset_item` as its entries, as a message.

    Raises NotJsonError naming what is wrong.
    """
    given = {name: value for name, value in dict(row).items() if value is not None}
    if unknown := given.keys() - _ENTRIES:
        raise NotJsonError(min(map(str, unknown)), f"an item has only {', '.join(sorted(_ENTRIES))}")
    if "input" not in row:
        raise NotJsonError("input", "is missing")
    try:
        splits = texts_of(given.get("splits"), "splits")
    except TypeError as error:
        raise NotJsonError("splits", str(error)) from None
    expected = given.get("expected_output")
    return DatasetItemRecorded(
        item_id=str(given.get("id", "")),
        input_json=strict_json(given.get("input"), "input"),
        expected_output_json="" if expected is None else strict_json(expected, "expected_output"),
        metadata_json=strict_object(given.get("metadata"), "metadata"),
        source_trace_id=_id_of(given, "source_trace_id", 32),
        source_span_id=_id_of(given, "source_observation_id", 16),
        splits=list(dict.fromkeys(splits)),
        author=author,
    )


def decoded(text: str) -> Any:
    """What JSON text says; None for no text."""
    return json.loads(text) if text else None


def instant_of(message: Timestamp) -> dt.datetime | None:
    """None where nothing is said."""
    return message.ToDatetime(dt.UTC) if message.seconds or message.nanos else None


_ENTRIES = frozenset(
    {"id", "input", "expected_output", "metadata", "source_trace_id", "source_observation_id", "splits"}
)


def _id_of(given: dict[str, Any], name: str, digits: int) -> bytes:
    if name not in given:
        return b""
    try:
        return parse_id(given[name], digits).to_bytes(digits // 2, "big")
    except ValueError as error:
        raise NotJsonError(name, str(error)) from None
