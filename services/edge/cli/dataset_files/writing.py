"""Items as lines of JSONL or CSV that import reads back."""

import csv
import json
import re
from collections.abc import Iterable
from typing import TextIO

from lodestream_proto.v1.datasets_pb2 import DatasetItem

from services.edge.cli.dataset_files.cells import as_cell, guarded

COLUMNS = ("id", "input", "expected_output", "metadata", "splits", "source_trace_id", "source_span_id")


_BREAKS = re.compile(r"[\r\n]+")


def write_jsonl(items: Iterable[DatasetItem], file: TextIO) -> int:
    """An object a line, with the JSON texts as they are: what is imported again is the same to the letter."""
    written = 0
    for item in items:
        file.write(json_line(item) + "\n")
        written += 1
    return written


def write_csv(items: Iterable[DatasetItem], file: TextIO) -> int:
    """A row an item. Strings stand plainly, other values as JSON: `--parse-json` reads them back."""
    writer = csv.writer(file, lineterminator="\r\n")  # RFC 4180; and cells that have either character are quoted
    writer.writerow(COLUMNS)
    written = 0
    for item in items:
        writer.writerow([guarded(cell) for cell in _cells(item)])
        written += 1
    return written


def json_line(item: DatasetItem) -> str:
    """Of texts that stay as they are; what an item does not have is left out."""
    texts = {
        "id": json.dumps(item.item_id, ensure_ascii=False),
        "input": _one_line(item.input_json),
        "expected_output": _one_line(item.expected_output_json),
        "metadata": _one_line(item.metadata_json) if item.metadata_json != "{}" else "",
        "splits": json.dumps(list(item.splits), ensure_ascii=False) if item.splits else "",
        "source_trace_id": json.dumps(item.source_trace_id) if item.source_trace_id else "",
        "source_span_id": json.dumps(item.source_span_id) if item.source_span_id else "",
    }
    return "{" + ", ".join(f'"{name}": {text}' for name, text in texts.items() if text) + "}"


def _one_line(json_text: str) -> str:
    """Line breaks in JSON stand between its parts only, where they mean nothing."""
    return _BREAKS.sub(" ", json_text)


def _cells(item: DatasetItem) -> list[str]:
    return [
        item.item_id,
        as_cell(item.input_json),
        as_cell(item.expected_output_json),
        item.metadata_json if item.metadata_json != "{}" else "",
        ",".join(item.splits) if not any("," in split for split in item.splits) else json.dumps(list(item.splits)),
        item.source_trace_id,
        item.source_span_id,
    ]
