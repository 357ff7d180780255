"""Datasets as pictures: tables of datasets, items and changes; one dataset, and items in full."""

import json
from collections.abc import Iterator, Sequence
from datetime import date, tzinfo

from lodestream_proto.v1 import datasets_pb2 as pb
from rich.text import Text

from services.edge.cli.render.quantities import count, counted, date_and_time, instants
from services.edge.cli.render.tables import Column, lay_out
from services.edge.cli.render.text import clip, escape_control, escape_control_lines, wrap

_MARGIN = "  "
_PREVIEW = 400  # characters
_KINDS = {
    pb.DATASET_CHANGE_KIND_CREATED: ("created", "green"),
    pb.DATASET_CHANGE_KIND_DESCRIBED: ("described", ""),
    pb.DATASET_CHANGE_KIND_ITEM_ADDED: ("item added", "green"),
    pb.DATASET_CHANGE_KIND_ITEM_CHANGED: ("item changed", "yellow"),
    pb.DATASET_CHANGE_KIND_ITEM_ARCHIVED: ("item archived", "red"),
    pb.DATASET_CHANGE_KIND_ARCHIVED: ("archived", "red"),
}


def dataset_table(datasets: Sequence[pb.Dataset], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A table with one line per dataset."""
    changed = instants([dataset.changed_at for dataset in datasets], zone, today)
    return lay_out(
        [
            Column(title="name", cells=[Text(escape_control(dataset.name)) for dataset in datasets], min_width=20),
            Column(title="version", cells=[Text(f"{dataset.version:,}") for dataset in datasets], right=True, rank=1),
            Column(title="items", cells=[Text(count(dataset.item_count)) for dataset in datasets], right=True),
            Column(title="runs", cells=[Text(count(dataset.run_count)) for dataset in datasets], right=True, rank=2),
            Column(
                title="splits",
                cells=[Text(escape_control(", ".join(dataset.splits))) for dataset in datasets],
                rank=4,
                min_width=8,
            ),
            Column(title="changed", cells=[Text(each, style="dim") for each in changed], rank=3),
            Column(
                title="description",
                cells=[Text(escape_control(dataset.description)) for dataset in datasets],
                rank=5,
                min_width=16,
            ),
            Column(
                title="", cells=[Text("archived" if dataset.archived else "", style="yellow") for dataset in datasets]
            ),
        ],
        width,
    )


def dataset_summary(dataset: pb.Dataset, *, width: int, zone: tzinfo) -> Iterator[Text]:
    """The lines that describe a dataset."""
    archived = Text("  archived" if dataset.archived else "", style="yellow")
    yield clip(Text.assemble((escape_control(dataset.name), "bold"), f" version {dataset.version:,}", archived), width)
    facts = [counted(dataset.item_count, "item"), counted(dataset.run_count, "run")]
    facts += [f"splits {', '.join(dataset.splits)}"] if dataset.splits else []
    facts += [
        f"created {date_and_time(dataset.created_at, zone)}",
        f"changed {date_and_time(dataset.changed_at, zone)}",
    ]
    yield clip(Text(_MARGIN + escape_control(" · ".join(facts)), style="dim"), width)
    if dataset.description:
        yield from _labelled("", dataset.description, width)
    for label, text in (
        ("metadata", dataset.metadata_json),
        ("input schema", dataset.input_schema_json),
        ("expected output schema", dataset.expected_output_schema_json),
    ):
        if text not in {"", "{}"}:
            yield from _labelled(label, _indented(text), width)


def item_table(items: Sequence[pb.DatasetItem], *, width: int) -> list[Text]:
    """A table with one line per item. The id is cut last, as other commands take it."""
    return lay_out(
        [
            Column(title="id", cells=[Text(escape_control(item.item_id)) for item in items]),
            Column(title="input", cells=[Text(preview(item.input_json)) for item in items], min_width=20),
            Column(
                title="expected",
                cells=[Text(preview(item.expected_output_json)) for item in items],
                rank=1,
                min_width=16,
            ),
            Column(
                title="splits",
                cells=[Text(escape_control(", ".join(item.splits))) for item in items],
                rank=3,
                min_width=6,
            ),
            Column(title="metadata", cells=[Text(_metadata(item)) for item in items], rank=4, min_width=12),
            Column(title="since", cells=[Text(f"{item.version:,}") for item in items], right=True, rank=2),
            Column(title="", cells=[Text("archived" if item.archived else "", style="yellow") for item in items]),
        ],
        width,
    )


def item_contents(items: Sequence[pb.DatasetItem], *, width: int) -> Iterator[Text]:
    """Items in full."""
    for item in items:
        splits = f"  {', '.join(item.splits)}" if item.splits else ""
        yield clip(Text.assemble((escape_control(item.item_id), "bold"), (escape_control(splits), "green")), width)
        yield from _labelled("input", _indented(item.input_json), width)
        if item.expected_output_json:
            yield from _labelled("expected output", _indented(item.expected_output_json), width)
        if item.metadata_json not in {"", "{}"}:
            yield from _labelled("metadata", _indented(item.metadata_json), width)
        if item.source_trace_id:
            yield clip(Text(f"{_MARGIN}from trace {item.source_trace_id}", style="dim"), width)
        yield Text()


def change_table(changes: Sequence[pb.DatasetChange], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A table with one line per change."""
    changed = instants([change.changed_at for change in changes], zone, today)
    return lay_out(
        [
            Column(title="version", cells=[Text(f"{change.version:,}") for change in changes], right=True),
            Column(title="change", cells=[Text(*_KINDS.get(change.kind, ("", ""))) for change in changes]),
            Column(title="item", cells=[Text(escape_control(change.item.item_id)) for change in changes], min_width=12),
            Column(
                title="input", cells=[Text(preview(change.item.input_json)) for change in changes], rank=3, min_width=16
            ),
            Column(title="by", cells=[Text(escape_control(change.author)) for change in changes], rank=2, min_width=8),
            Column(title="at", cells=[Text(each, style="dim") for each in changed], rank=1),
        ],
        width,
    )


def preview(json_text: str) -> str:
    """The beginning of a JSON text in one line; a JSON string without its quotes."""
    try:
        value = json.loads(json_text) if json_text else ""
    except (ValueError, RecursionError):
        value = json_text
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return escape_control(" ".join(text[:_PREVIEW].split()))


def _metadata(item: pb.DatasetItem) -> str:
    return "" if item.metadata_json in {"", "{}"} else preview(item.metadata_json)


def _indented(json_text: str) -> str:
    try:
        value = json.loads(json_text)
    except (ValueError, RecursionError):
        return json_text
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _labelled(label: str, text: str, width: int) -> Iterator[Text]:
    if label:
        yield Text(f"{_MARGIN}{label}", style="dim")
    for written in escape_control_lines(text):
        for line in wrap(written, max(width - 2 * len(_MARGIN), 8)):
            yield Text(2 * _MARGIN + line)
