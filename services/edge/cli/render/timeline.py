"""Time as bars: spans on a time axis, and where a trace's time went."""

from dataclasses import dataclass

from lodestream_proto.v1.trace_pb2 import Anatomy
from rich.text import Text

from services.edge.cli.render.quantities import duration, share
from services.edge.cli.render.text import flow

# Both halves, the left half, the right half of a cell.
_HEAVY = ("█", "▌", "▐")
_LIGHT = ("━", "╸", "╺")
_CELLS_BETWEEN_TICKS = 9


def bar(start: int, end: int, *, whole: int, width: int, heavy: bool) -> str:
    """A bar from `start` to `end` on an axis from 0 to `whole`, `width` cells wide. The shortest is half a cell."""
    steps = 2 * width
    whole = max(whole, 1)
    first = min(max(start, 0) * steps // whole, steps - 1)
    last = min(max(-(-end * steps // whole), first + 1), steps)  # rounded up
    both, left_half, right_half = _HEAVY if heavy else _LIGHT
    characters = []
    for cell in range(width):
        halves = (first <= 2 * cell < last, first <= 2 * cell + 1 < last)
        characters.append(both if all(halves) else left_half if halves[0] else right_half if halves[1] else " ")
    return "".join(characters)


def axis(whole: int, width: int) -> str:
    """Labels of an axis from 0 to `whole` microseconds; each begins at the place it names."""
    labels = [" "] * width
    free = 0
    for tick in range(0, max(whole, 1), _step(whole, width)):
        label = duration(tick) if tick else "0"
        at = tick * width // max(whole, 1)
        if at >= free and at + len(label) <= width:
            labels[at : at + len(label)] = label
            free = at + len(label) + 1
    return "".join(labels)


def _step(whole: int, width: int) -> int:
    """Microseconds between ticks: 1, 2 or 5 times a power of ten, so that labels have room."""
    smallest = max(whole, 1) * _CELLS_BETWEEN_TICKS / max(width, 1)
    power = 1
    while 5 * power < smallest:
        power *= 10
    return next(leading * power for leading in (1, 2, 5) if leading * power >= smallest)


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    us: int
    fill: str
    """Tells the kinds apart without colours."""
    style: str


def time_breakdown(spent: Anatomy, latency_us: int, width: int) -> list[Text]:
    """A bar of `width` cells and its legend. Shares are of the latency, and add up to more where kinds overlap."""
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
        legend.append(Text(f"({duration(overlap)} of it in parallel)", style="dim"))
    return [stacked, *flow(legend, width, gap="   ")] if legend else []


def apportioned(parts: list[int], cells: int) -> list[int]:
    """Divide `cells` among parts in proportion. Every part above zero gets at least one cell."""
    whole = sum(parts)
    if not whole:
        return [0] * len(parts)
    cells_of = [max(part * cells // whole, 1) if part else 0 for part in parts]
    while sum(cells_of) < cells:
        cells_of[max(range(len(parts)), key=lambda each: parts[each] * cells / whole - cells_of[each])] += 1
    while sum(cells_of) > cells and max(cells_of) > 1:
        cells_of[cells_of.index(max(cells_of))] -= 1
    return cells_of


def _explained(kind: _Kind, latency_us: int) -> Text:
    line = Text(kind.fill, style=kind.style)
    line.append(f" {kind.name} ", style="default")
    line.append(duration(kind.us), style="bold")
    line.append(f" {share(kind.us, latency_us)}", style="default")
    return line
