"""Datasets as pictures: tables of datasets, items and changes; one dataset, and items in full."""

import json
from collections.abc import Iterator, Sequence
from datetime import date, tzinfo

from lodestream_proto.v1 import datasets_pb2 as pb
from rich.text import Text

from services.edge.cli.render.quantities import count, counted, date_and_time, instants
from services.edge.cli.render.tables import Column, lay_out
from services.edge.cli.render.text import clipped, folded, inert, inert_lines

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
    """A line a dataset."""
    changed = instants([dataset.changed_at for dataset in datasets], zone, today)
    return lay_out(
        [
            Column(title="name", cells=[Text(inert(its.name)) for its in datasets], least=20),
            Column(title="version", cells=[Text(f"{its.version:,}") for its in datasets], right=True, rank=1),
            Column(title="items", cells=[Text(count(its.item_count)) for its in datasets], right=True),
            Column(title="runs", cells=[Text(count(its.run_count)) for its in datasets], right=True, rank=2),
            Column(title="splits", cells=[Text(inert(", ".join(its.splits))) for its in datasets], rank=4, least=8),
            Column(title="changed", cells=[Text(each, style="dim") for each in changed], rank=3),
            Column(title="description", cells=[Text(inert(its.description)) for its in datasets], rank=5, least=16),
            Column(title="", cells=[Text("archived" if its.archived else "", style="yellow") for its in datasets]),
        ],
        width,
    )


def dataset_head(its: pb.Dataset, *, width: int, zone: tzinfo) -> Iterator[Text]:
    """What is known of a dataset."""
    archived = Text("  archived" if its.archived else "", style="yellow")
    yield clipped(Text.assemble((inert(its.name), "bold"), f" version {its.version:,}", archived), width)
    facts = [counted(its.item_count, "item"), counted(its.run_count, "run")]
    facts += [f"splits {', '.join(its.splits)}"] if its.splits else []
    facts += [f"created {date_and_time(its.created_at, zone)}", f"changed {date_and_time(its.changed_at, zone)}"]
    yield clipped(Text(_MARGIN + inert(" · ".join(facts)), style="dim"), width)
    if its.description:
        yield from _shown("", its.description, width)
    for label, text in (
        ("metadata", its.metadata_json),
        ("input schema", its.input_schema_json),
        ("expected output schema", its.expected_output_schema_json),
    ):
        if text not in {"", "{}"}:
            yield from _shown(label, _indented(text), width)


def item_table(items: Sequence[pb.DatasetItem], *, width: int) -> list[Text]:
    """A line an item. The id is clipped last: it is what other commands take."""
    return lay_out(
        [
            Column(title="id", cells=[Text(inert(its.item_id)) for its in items]),
            Column(title="input", cells=[Text(preview(its.input_json)) for its in items], least=20),
            Column(
                title="expected", cells=[Text(preview(its.expected_output_json)) for its in items], rank=1, least=16
            ),
            Column(title="splits", cells=[Text(inert(", ".join(its.splits))) for its in items], rank=3, least=6),
            Column(title="metadata", cells=[Text(_metadata(its)) for its in items], rank=4, least=12),
            Column(title="since", cells=[Text(f"{its.version:,}") for its in items], right=True, rank=2),
            Column(title="", cells=[Text("archived" if its.archived else "", style="yellow") for its in items]),
        ],
        width,
    )


def item_contents(items: Sequence[pb.DatasetItem], *, width: int) -> Iterator[Text]:
    """Each item in full."""
    for its in items:
        splits = f"  {', '.join(its.splits)}" if its.splits else ""
        yield clipped(Text.assemble((inert(its.item_id), "bold"), (inert(splits), "green")), width)
        yield from _shown("input", _indented(its.input_json), width)
        if its.expected_output_json:
            yield from _shown("expected output", _indented(its.expected_output_json), width)
        if its.metadata_json not in {"", "{}"}:
            yield from _shown("metadata", _indented(its.metadata_json), width)
        if its.source_trace_id:
            yield clipped(Text(f"{_MARGIN}from trace {its.source_trace_id}", style="dim"), width)
        yield Text()


def change_table(changes: Sequence[pb.DatasetChange], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A line a change."""
    changed = instants([change.changed_at for change in changes], zone, today)
    return lay_out(
        [
            Column(title="version", cells=[Text(f"{its.version:,}") for its in changes], right=True),
            Column(title="change", cells=[Text(*_KINDS.get(its.kind, ("", ""))) for its in changes]),
            Column(title="item", cells=[Text(inert(its.item.item_id)) for its in changes], least=12),
            Column(title="input", cells=[Text(preview(its.item.input_json)) for its in changes], rank=3, least=16),
            Column(title="by", cells=[Text(inert(its.author)) for its in changes], rank=2, least=8),
            Column(title="at", cells=[Text(each, style="dim") for each in changed], rank=1),
        ],
        width,
    )


def preview(json_text: str) -> str:
    """The beginning of a JSON text in one line; of a string what it says."""
    try:
        value = json.loads(json_text) if json_text else ""
    except (ValueError, RecursionError):
        value = json_text
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return inert(" ".join(said[:_PREVIEW].split()))


def _metadata(its: pb.DatasetItem) -> str:
    return "" if its.metadata_json in {"", "{}"} else preview(its.metadata_json)


def _indented(json_text: str) -> str:
    try:
        value = json.loads(json_text)
    except (ValueError, RecursionError):
        return json_text
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _shown(label: str, text: str, width: int) -> Iterator[Text]:
    if label:
        yield Text(f"{_MARGIN}{label}", style="dim")
    for written in inert_lines(text):
        for line in folded(written, max(width - 2 * len(_MARGIN), 8)):
            yield Text(2 * _MARGIN + line)
