"""Processes and projections as tables."""

from collections.abc import Sequence

from lodestream_proto.v1.query_pb2 import ProjectionStatus
from rich.text import Text

from services.edge.cli.local_stack import LocalProcess
from services.edge.cli.render.columns import Column, lay_out
from services.edge.cli.render.text import folded, inert

_MEBIBYTE = 1024 * 1024


def process_table(processes: Sequence[LocalProcess], *, width: int) -> list[Text]:
    """A line a process, and why those that are down are."""
    table = lay_out(
        [
            Column(title="process", cells=[Text(inert(each.name)) for each in processes]),
            Column(title="state", cells=[_state(each) for each in processes]),
            Column(title="pid", cells=[Text(str(each.pid or "")) for each in processes], right=True, rank=2),
            Column(title="memory", cells=[Text(_memory(each)) for each in processes], right=True, rank=1),
            Column(title="address", cells=[Text(inert(each.address)) for each in processes], rank=3, least=14),
        ],
        width,
    )
    reasons = [f"{each.name}: {each.reason}" for each in processes if each.reason and each.pid is None]
    return [*table, *(Text(line, style="red") for reason in reasons for line in folded(inert(reason), width))]


def projection_table(projections: Sequence[ProjectionStatus], *, width: int) -> list[Text]:
    """A line a projection, and a line for each partition in which one has stopped."""
    table = lay_out(
        [
            Column(title="projection", cells=[Text(inert(each.projection)) for each in projections]),
            Column(title="topic", cells=[Text(inert(each.topic)) for each in projections], rank=2, least=12),
            Column(
                title="partitions", cells=[Text(str(len(each.partitions))) for each in projections], right=True, rank=1
            ),
            Column(title="records", cells=[Text(f"{_end(each):,}") for each in projections], right=True, rank=3),
            Column(title="lag", cells=[_lag_text(each) for each in projections], right=True),
        ],
        width,
    )
    halts = [
        f"{each.projection} stopped in partition {partition.partition}: {partition.halted_reason}"
        for each in projections
        for partition in each.partitions
        if partition.halted_reason
    ]
    return [*table, *(Text(line, style="red") for halt in halts for line in folded(inert(halt), width))]


def lag(projection: ProjectionStatus) -> int:
    """Records that the log has and the projection has not read, over all partitions."""
    return sum(max(each.end_offset - each.next_offset, 0) for each in projection.partitions)


def _lag_text(projection: ProjectionStatus) -> Text:
    behind = lag(projection)
    return Text(f"{behind:,}", style="yellow" if behind else "green")


def _end(projection: ProjectionStatus) -> int:
    return sum(each.end_offset for each in projection.partitions)


def _state(process: LocalProcess) -> Text:
    times = f", restarted {process.restarts}x" if process.restarts else ""
    return Text(inert(process.state) + times, style="green" if process.state == "ready" else "red")


def _memory(process: LocalProcess) -> str:
    return "" if process.memory_bytes is None else f"{process.memory_bytes / _MEBIBYTE:,.0f} MB"
