"""`lodestream datasets add-from-traces`: what production was asked becomes what the next version is tried on."""

import json
import os
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
from services.edge.cli.dataset_items import Placed, Tally, batches, fault_of, record
from services.edge.cli.errors import ExitCode
from services.edge.cli.options import AsJson, Author, TimeRange, with_options
from services.edge.cli.render.datasets import item_table
from services.edge.cli.render.text import inert

_AT_ONCE = 200
_SPANS_AT_ONCE = 50  # the root is among the first to start


@dataclass(slots=True)
class _Found:
    """What the traces gave."""

    items: list[Placed] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Trace ids and reasons."""


@with_options(only=options.trace_filter, when=options.time_range, wait_for=options.wait_for, gateway=options.gateway)
def add_from_traces(
    *,
    gateway: Gateway,
    only: TraceFilter,
    when: TimeRange,
    wait_for: WaitFor | None,
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, max=10_000, metavar="N", help="The newest so many.")
    ] = 50,
    expected: Annotated[
        bool, typer.Option("--expected/--no-expected", help="Take outputs as the expected outputs, or not.")
    ] = True,
    into_split: Annotated[list[str] | None, typer.Option(metavar="SPLIT", help="Items are of this split.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be added.")] = False,
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Add traces to a dataset: the root's input and output become input and expected output. Filters as of `traces list`.

    An item's id follows from its content: what is there already stays as it is, from whatever trace it came.

    \b
    Examples:
      lodestream datasets add-from-traces questions --since 1d --score "helpful<=0.2" --no-expected
      lodestream datasets add-from-traces questions --tag web --limit 200 --dry-run
    """  # noqa: D301, E501
    only.MergeFrom(TraceFilter(start_from=when.start_from, start_before=when.start_before))
    found = _Found()
    with progress("reading traces", limit) as advance:
        for done, trace_id in enumerate(_trace_ids(gateway, only, wait_for, limit), start=1):
            item = item_from(_with_root(gateway, trace_id), expected=expected)
            if isinstance(item, str):
                found.left_out.append((trace_id, item))
            else:
                item.splits[:] = sorted(set(into_split or ()))
                item.author = author or os.environ.get("USER", "")
                found.items.append(Placed(done, item))
            advance(done)
    fresh, known = _fresh(gateway, dataset, found.items)
    tally = Tally()
    for batch in batches(fresh if not dry_run else ()):
        for refused in record(gateway, dataset, batch, tally):
            item = next(placed.item for placed in batch if placed.line == refused.line)
            found.left_out.append((item.source_trace_id.hex(), refused.reason))
    _tell(dataset, fresh, known, found, tally, dry_run=dry_run, as_json=as_json)
    if found.left_out and not dry_run:
        raise typer.Exit(ExitCode.FAILED)


def item_from(answer: GetTraceResponse, *, expected: bool) -> DatasetItemRecorded | str:
    """The item of a trace, or why it gives none."""
    roots = [span for span in answer.spans if not span.parent_span_id]
    if not roots:
        return "its root span has not come yet"
    root = roots[0]
    if not root.content.HasField("input"):
        return "its root has no input"
    item = DatasetItemRecorded(
        input_json=as_json_text(root.content.input),
        expected_output_json=as_json_text(root.content.output) if expected and root.content.HasField("output") else "",
        source_trace_id=bytes.fromhex(answer.trace.trace_id),
        source_span_id=bytes.fromhex(root.span_id),
    )
    return fault_of(item) or item


def as_json_text(content: str) -> str:
    """What was sent, where that is a JSON object, list or string; any other text as a JSON string."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return json.dumps(content, ensure_ascii=False)
    return content if isinstance(value, dict | list | str) else json.dumps(content, ensure_ascii=False)


def _with_root(gateway: Gateway, trace_id: str) -> GetTraceResponse:
    """The first page of a trace, with the next ones up to the one that has its root."""
    found = GetTraceResponse()
    while True:
        request = GetTraceRequest(
            trace_id=trace_id, with_content=True, page_size=_SPANS_AT_ONCE, page_token=found.next_page_token
        )
        found.ClearField("next_page_token")
        page = gateway.ask(gateway.query.GetTrace, request, tries=3)
        del found.spans[:]
        found.MergeFrom(page)
        if not found.next_page_token or not all(span.parent_span_id for span in page.spans):
            return found


def _trace_ids(gateway: Gateway, only: TraceFilter, wait_for: WaitFor | None, limit: int) -> Iterator[str]:
    token = ""
    left = limit
    while left:
        request = ListTracesRequest(filter=only, page_size=min(left, _AT_ONCE), page_token=token, wait_for=wait_for)
        answer = gateway.ask(gateway.query.ListTraces, request)
        for trace in answer.traces[:left]:
            left -= 1
            yield trace.trace_id
        token = answer.next_page_token
        if not token:
            return


def _fresh(gateway: Gateway, dataset: str, items: list[Placed]) -> tuple[list[Placed], int]:
    """The items that the dataset does not have, each once, and how many it has or came twice."""
    first: dict[str, Placed] = {}
    for placed in items:
        first.setdefault(placed.item.item_id, placed)
    ids = list(first)
    known: set[str] = set()
    for begin in range(0, max(len(ids), 1), _AT_ONCE):  # at least once: there may be no such dataset
        request = pb.ListItemsRequest(
            dataset=pb.DatasetSelector(name=dataset), item_ids=ids[begin : begin + _AT_ONCE], page_size=_AT_ONCE
        )
        known |= {item.item_id for item in gateway.ask(gateway.datasets.ListItems, request).items}
    fresh = [placed for item_id, placed in first.items() if item_id not in known]
    return fresh, len(items) - len(fresh)


def _tell(
    dataset: str, fresh: list[Placed], known: int, found: _Found, tally: Tally, *, dry_run: bool, as_json: bool
) -> None:
    if as_json:
        added = [{"item_id": its.item.item_id, "trace_id": its.item.source_trace_id.hex()} for its in fresh]
        left_out = [{"trace_id": trace_id, "reason": reason} for trace_id, reason in found.left_out]
        told = {"dataset": dataset, "added": added, "known": known, "left_out": left_out, "dry_run": dry_run}
        console.show_json({**told, "version": tally.version or None, "position": tally.position or None})
        return
    for trace_id, reason in found.left_out:
        console.remark(inert(f"trace {trace_id}: {reason}"))
    if dry_run and fresh:
        keys = ("item_id", "input_json", "expected_output_json", "splits")
        items = [pb.DatasetItem(**{key: getattr(its.item, key) for key in keys}) for its in fresh]
        console.show(item_table(items, width=console.width()))
    did = f"would add {len(fresh):,} items" if dry_run else f"added {tally.stored:,} items"
    version = f" (version {tally.version:,})" if tally.version else ""
    there = f"; {known:,} are there already" if known else ""
    left = f"; left out {len(found.left_out):,} traces" if found.left_out else ""
    console.show([Text(f"{did} to {inert(dataset)}{version}{there}{left}")])
