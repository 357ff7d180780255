"""Where a trace's time went, as one stacked bar and its legend."""

from dataclasses import dataclass

from lodestream_proto.v1.trace_pb2 import Anatomy
from rich.text import Text

from services.edge.cli.render.quantities import duration, share
from services.edge.cli.render.text import flowed


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    us: int
    fill: str
    """Tells the kinds apart without colours."""
    style: str


def anatomy(spent: Anatomy, latency_us: int, width: int) -> list[Text]:
    """A bar of `width` cells and the legend below it. Shares are of the latency; kinds that overlap add up to more."""
    kinds = [
        _Kind("retrieval", spent.retrieval_us, "█", "cyan"),
        _Kind("generation", spent.generation_us, "▓", "magenta"),
        _Kind("tool", spent.tool_us, "▒", "green"),
        _Kind("other", spent.other_us, "░", "blue"),
        _Kind("idle", spent.idle_us, "·", "dim"),
    ]
    stacked = Text()
    for kind, cells in zip(kinds, apportioned([kind.us for kind in kinds], width), strict=True):
        stacked.append(kind.fill * cells, style=kind.style)
    legend = [_explained(kind, latency_us) for kind in kinds if kind.us]
    overlap = sum(kind.us for kind in kinds) - latency_us
    if overlap > 0 and latency_us:
        legend.append(Text(f"({duration(overlap)} of it at the same time)", style="dim"))
    return [stacked, *flowed(legend, width, gap="   ")] if legend else []


def apportioned(parts: list[int], cells: int) -> list[int]:
    """Cells for each part in proportion, `cells` together; what is more than nothing gets at least one cell."""
    whole = sum(parts)
    if not whole:
        return [0] * len(parts)
    given = [max(part * cells // whole, 1) if part else 0 for part in parts]
    while sum(given) < cells:
        given[max(range(len(parts)), key=lambda each: parts[each] * cells / whole - given[each])] += 1
    while sum(given) > cells and max(given) > 1:
        given[given.index(max(given))] -= 1
    return given


def _explained(kind: _Kind, latency_us: int) -> Text:
    line = Text(kind.fill, style=kind.style)
    line.append(f" {kind.name} ", style="default")
    line.append(duration(kind.us), style="bold")
    line.append(f" {share(kind.us, latency_us)}", style="default")
    return line
