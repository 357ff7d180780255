"""Rows of datasets as the messages that reads answer with."""

from collections.abc import Mapping
from typing import Any

from lodestream_proto.v1.datasets_pb2 import Dataset, DatasetItem

from services.read.query.nouns import timestamp

Row = Mapping[str, Any]


def dataset(found: Row, version: int, row: Row) -> Dataset:
    """A dataset, at a version, and a row that says what it was like then."""
    return Dataset(
        dataset_id=found["dataset_id"],
        name=found["name"],
        description=row["description"],
        metadata_json=row["metadata"],
        input_schema_json=row["input_schema"],
        expected_output_schema_json=row["expected_output_schema"],
        archived=row["archived"],
        version=version,
        item_count=row["item_count"],
        created_at=timestamp(found["created_at"]),
        changed_at=timestamp(row["changed_at"]),
        run_count=row["run_count"],
        splits=row["splits"],
    )


def item(row: Row) -> DatasetItem:
    """A row of dataset_items."""
    return DatasetItem(
        item_id=row["item_id"],
        input_json=row["input"],
        expected_output_json=row["expected_output"],
        metadata_json=row["metadata"],
        source_trace_id=(row["source_trace_id"] or b"").hex(),
        source_span_id=(row["source_span_id"] or b"").hex(),
        splits=row["splits"],
        archived=row["archived"],
        version=row["version"],
        created_at=timestamp(row["created_at"]),
        changed_at=timestamp(row["changed_at"]),
        author=row["author"],
    )
