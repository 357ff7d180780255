"""Horizontal bars on a time axis, two steps a cell. Heavy bars stand for the critical path."""

from services.edge.cli.render.quantities import duration

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
    both, left, right = _HEAVY if heavy else _LIGHT
    drawn = []
    for cell in range(width):
        halves = (first <= 2 * cell < last, first <= 2 * cell + 1 < last)
        drawn.append(both if all(halves) else left if halves[0] else right if halves[1] else " ")
    return "".join(drawn)


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
    """Between ticks: 1, 2 or 5 times a power of ten, so that labels have room."""
    least = max(whole, 1) * _CELLS_BETWEEN_TICKS / max(width, 1)
    power = 1
    while 5 * power < least:
        power *= 10
    return next(leading * power for leading in (1, 2, 5) if leading * power >= least)
