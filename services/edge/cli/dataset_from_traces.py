"""`lodestream datasets add-from-traces`: what production was asked becomes what the next version is tried on."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import typer
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import DatasetItemRecorded
from lodestream_proto.v1.query_pb2 import (
    GetTraceRequest,
    GetTraceResponse,
    ListTracesRequest,
    TraceFilter,
    WaitFor,
)
from rich.text import Text

from services.edge.cli import console, options
from services.edge.cli.connection import Gateway
from services.edge.cli.console import progress
from services.edge.cli.dataset_items import NumberedItem, Tally, batches, fault_of, record
from services.edge.cli.errors import ExitCode
from services.edge.cli.options import AsJson, Author, TimeRange, with_options
from services.edge.cli.render.datasets import item_table
from services.edge.cli.render.text import escape_control

_AT_ONCE = 200
_SPANS_AT_ONCE = 50  # the root is among the first to start


@dataclass(slots=True)
class _FromTraces:
    """The items that traces gave, and the traces that gave none."""

    items: list[NumberedItem] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Trace ids and reasons."""


@with_options(
    trace_filter=options.trace_filter, time_range=options.time_range, wait_for=options.wait_for, gateway=options.gateway
)
def add_from_traces(
    *,
    gateway: Gateway,
    trace_filter: TraceFilter,
    time_range: TimeRange,
    wait_for: WaitFor | None,
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, max=10_000, metavar="N", help="Take at most this many, newest first.")
    ] = 50,
    expected: Annotated[
        bool, typer.Option("--expected/--no-expected", help="Use outputs as expected outputs, or not.")
    ] = True,
    into_split: Annotated[
        list[str] | None, typer.Option(metavar="SPLIT", help="Put items into this split; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be added.")] = False,
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Add traces to a dataset: the root span's input and output become an item's input and expected output.

    Filters are those of `traces list`. An item's id is derived from its content, so an item that already exists stays
    as it is, whichever trace it came from.

    \b
    Examples:
      lodestream datasets add-from-traces questions --since 1d --score "helpful<=0.2" --no-expected
      lodestream datasets add-from-traces questions --tag web --limit 200 --dry-run
    """  # noqa: D301
    trace_filter.MergeFrom(TraceFilter(start_from=time_range.start_from, start_before=time_range.start_before))
    extracted = _FromTraces()
    with progress("reading traces", limit) as advance:
        for done, trace_id in enumerate(_trace_ids(gateway, trace_filter, wait_for, limit), start=1):
            item = item_from(_with_root(gateway, trace_id), expected=expected)
            if isinstance(item, str):
                extracted.left_out.append((trace_id, item))
            else:
                item.splits[:] = sorted(set(into_split or ()))
                item.author = author
                extracted.items.append(NumberedItem(done, item))
            advance(done)
    new, existing = _split_new(gateway, dataset, extracted.items)
    tally = Tally()
    for batch in batches(new if not dry_run else ()):
        for refused in record(gateway, dataset, batch, tally):
            item = next(placed.item for placed in batch if placed.line == refused.line)
            extracted.left_out.append((item.source_trace_id.hex(), refused.reason))
    _show_result(dataset, new, existing, extracted, tally, dry_run=dry_run, as_json=as_json)
    if extracted.left_out and not dry_run:
        raise typer.Exit(ExitCode.FAILED)


def item_from(trace: GetTraceResponse, *, expected: bool) -> DatasetItemRecorded | str:
    """The item of a trace, or why it gives none."""
    roots = [span for span in trace.spans if not span.parent_span_id]
    if not roots:
        return "its root span has not arrived yet"
    root = roots[0]
    if not root.content.HasField("input"):
        return "its root span has no input"
    item = DatasetItemRecorded(
        input_json=as_json_text(root.content.input),
        expected_output_json=as_json_text(root.content.output) if expected and root.content.HasField("output") else "",
        source_trace_id=bytes.fromhex(trace.trace.trace_id),
        source_span_id=bytes.fromhex(root.span_id),
    )
    return fault_of(item) or item


def as_json_text(content: str) -> str:
    """A span's content as JSON: an object, list or string as it is, any other text as a JSON string."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return json.dumps(content, ensure_ascii=False)
    return content if isinstance(value, dict | list | str) else json.dumps(content, ensure_ascii=False)


def _with_root(gateway: Gateway, trace_id: str) -> GetTraceResponse:
    """The first page of a trace, with the next ones up to the one that has its root."""
    trace = GetTraceResponse()
    while True:
        request = GetTraceRequest(
            trace_id=trace_id, with_content=True, page_size=_SPANS_AT_ONCE, page_token=trace.next_page_token
        )
        trace.ClearField("next_page_token")
        page = gateway.call(gateway.query.GetTrace, request, tries=3)
        del trace.spans[:]
        trace.MergeFrom(page)
        if not trace.next_page_token or not all(span.parent_span_id for span in page.spans):
            return trace


def _trace_ids(gateway: Gateway, trace_filter: TraceFilter, wait_for: WaitFor | None, limit: int) -> Iterator[str]:
    token = ""
    remaining = limit
    while remaining:
        request = ListTracesRequest(
            filter=trace_filter, page_size=min(remaining, _AT_ONCE), page_token=token, wait_for=wait_for
        )
        response = gateway.call(gateway.query.ListTraces, request)
        for trace in response.traces[:remaining]:
            remaining -= 1
            yield trace.trace_id
        token = response.next_page_token
        if not token:
            return


def _split_new(gateway: Gateway, dataset: str, items: list[NumberedItem]) -> tuple[list[NumberedItem], int]:
    """The items that are not in the dataset, each once, and the number of the others."""
    first: dict[str, NumberedItem] = {}
    for placed in items:
        first.setdefault(placed.item.item_id, placed)
    ids = list(first)
    existing: set[str] = set()
    for begin in range(0, max(len(ids), 1), _AT_ONCE):  # at least once: there may be no such dataset
        request = pb.ListItemsRequest(
            dataset=pb.DatasetSelector(name=dataset), item_ids=ids[begin : begin + _AT_ONCE], page_size=_AT_ONCE
        )
        existing |= {item.item_id for item in gateway.call(gateway.datasets.ListItems, request).items}
    new = [placed for item_id, placed in first.items() if item_id not in existing]
    return new, len(items) - len(new)


def _show_result(
    dataset: str,
    new: list[NumberedItem],
    existing: int,
    extracted: _FromTraces,
    tally: Tally,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    if as_json:
        added = [{"item_id": placed.item.item_id, "trace_id": placed.item.source_trace_id.hex()} for placed in new]
        left_out = [{"trace_id": trace_id, "reason": reason} for trace_id, reason in extracted.left_out]
        result = {"dataset": dataset, "added": added, "known": existing, "left_out": left_out, "dry_run": dry_run}
        console.show_json({**result, "version": tally.version or None, "position": tally.position or None})
        return
    for trace_id, reason in extracted.left_out:
        console.remark(escape_control(f"trace {trace_id}: {reason}"))
    if dry_run and new:
        keys = ("item_id", "input_json", "expected_output_json", "splits")
        items = [pb.DatasetItem(**{key: getattr(placed.item, key) for key in keys}) for placed in new]
        console.show(item_table(items, width=console.width()))
    action = f"would add {len(new):,} items" if dry_run else f"added {tally.stored:,} items"
    version = f" (version {tally.version:,})" if tally.version else ""
    already = f"; {existing:,} exist already" if existing else ""
    skipped = f"; skipped {len(extracted.left_out):,} traces" if extracted.left_out else ""
    console.show([Text(f"{action} to {escape_control(dataset)}{version}{already}{skipped}")])
