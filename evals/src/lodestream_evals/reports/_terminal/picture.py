"""The whole picture, in the order of what matters."""

import io
from collections.abc import Iterator, Sequence

from lodestream_proto.v1 import experiments_pb2 as pb
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from lodestream_evals.reports._changes import ItemChanges
from lodestream_evals.reports._facts import facts, progress, remark, title
from lodestream_evals.reports._findings import STATES, Candidate, Findings
from lodestream_evals.reports._readable import one_line
from lodestream_evals.reports._terminal.items import changed_items, failed_items, missed_items
from lodestream_evals.reports._terminal.tables import check_table, comparison_table, metric_table, segment_table
from lodestream_evals.reports._units import Kind, shown

_MOST_SEGMENTS = 6
_MOST_NAMED = 8
_LONGEST = 600  # characters of a remark


def drawn(found: Findings, *, width: int, color: bool) -> str:
    """Lines of at most `width` cells."""
    written = io.StringIO()
    console = Console(
        file=written, width=width, force_terminal=color, no_color=not color, legacy_windows=False,
        color_system="standard" if color else None, highlight=False, markup=False, emoji=False, force_jupyter=False,
    )  # fmt: skip
    for part in _parts(found, width):
        console.print(part)
    return "\n".join(line.rstrip() for line in written.getvalue().split("\n")).strip("\n") + "\n"


def _parts(found: Findings, width: int) -> Iterator[RenderableType]:
    yield from _head(found)
    if found.gate:
        yield from _section("gate", [check_table(found.gate.checks)])
    for candidate in found.candidates:
        yield from _comparison(found, candidate, width)
    if not found.candidates and found.metrics:
        yield from _section("metrics", [metric_table([*found.metrics, *found.costs], width)])
    yield from _section("the run as a whole", list(_judgements(found)))
    yield from _section(f"failed ({len(found.failed):,})", list(failed_items(found.failed)))
    if not found.candidates:
        yield from _section(f"checks not passed ({len(found.missed):,})", list(missed_items(found.missed)))
        worse = [segment for segment in found.segments if segment.gap < 0][:_MOST_SEGMENTS]
        yield from _section("where it struggled", [segment_table(worse, "all items")] if worse else [])
    yield from _section("what the figures can't say", [_bullet(line, "yellow") for line in found.warnings])


def _head(found: Findings) -> Iterator[RenderableType]:
    run = found.run
    style = {pb.EXPERIMENT_STATE_COMPLETED: "green", pb.EXPERIMENT_STATE_FAILED: "red"}.get(run.state, "yellow")
    yield Text.assemble((title(run), "bold"), "  ", (STATES.get(run.state, "not begun"), style), "  ", progress(run))
    told = facts(run)
    if found.baseline:
        told.insert(0, ("baseline", title(found.baseline)))
    if len(found.candidates) > 1:
        told.insert(1, ("compared", ", ".join(title(each.run) for each in found.candidates)))
    wide = max((len(name) for name, _ in told), default=0)
    for name, value in told:
        yield Padding(Text.assemble((f"{name:<{wide}}  ", "dim"), value), (0, 0, 0, 2))
    yield Text()
    yield Text(found.headline, style="bold")


def _comparison(found: Findings, candidate: Candidate, width: int) -> Iterator[RenderableType]:
    assert found.baseline is not None
    several = len(found.candidates) > 1
    name = f"{title(candidate.run)} against {title(found.baseline)}" if several else "against the baseline"
    yield from _section(name, [comparison_table(candidate.metrics, found, width), *_remarks(found, candidate)])
    worse, better = candidate.regressed, candidate.improved
    yield from _section(f"got worse ({len(worse):,})", list(changed_items(worse, found.kinds)))
    yield from _section(f"got better ({len(better):,})", [_names(better)] if better else [])
    lost = [segment for segment in candidate.segments if segment.gap < 0][:_MOST_SEGMENTS]
    yield from _section("where it lost", [segment_table(lost, "baseline")] if lost else [])


def _remarks(found: Findings, candidate: Candidate) -> Iterator[RenderableType]:
    for its in candidate.metrics:
        if words := remark(found.kinds.get(its.metric, Kind.NUMBER), its):
            yield _bullet(words, "dim")


def _names(changed: Sequence[ItemChanges]) -> RenderableType:
    ids = [one_line(item.item_id, 60) for item in changed[:_MOST_NAMED]]
    more = f" and {len(changed) - _MOST_NAMED:,} more" if len(changed) > _MOST_NAMED else ""
    return Padding(Text(", ".join(ids) + more, style="dim"), (0, 0, 0, 2))


def _judgements(found: Findings) -> Iterator[RenderableType]:
    for its in found.run_judgements:
        value = shown(its.kind, its.number) if its.kind is Kind.NUMBER and its.number is not None else its.said
        line = Text.assemble(one_line(its.name, 80), "  ", (one_line(its.error or value, _LONGEST), "bold"))
        if its.comment:
            line.append(f"  {one_line(its.comment, _LONGEST)}", style="dim")
        yield Padding(line, (0, 0, 0, 2))


def _bullet(line: str, style: str) -> RenderableType:
    return Padding(Text(f"· {one_line(line, _LONGEST)}", style=style), (0, 0, 0, 2))


def _section(name: str, body: Sequence[RenderableType]) -> Iterator[RenderableType]:
    if body:
        yield Text()
        yield Text(name, style="bold cyan")
        yield from body
