"""Tables that fit a width, and the line below a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from lodestream_proto.v1.query_pb2 import Freshness
from rich.text import Text

from services.edge.cli.render.quantities import clock, duration
from services.edge.cli.render.text import fitted, inert

GAP = 2  # cells between columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column; all have the same number of cells. One that is empty everywhere is left out."""

    title: str
    cells: Sequence[Text]
    rank: int = 0
    """0: always shown; of the others the highest is left out first."""
    right: bool = False
    """Aligned to the right, as numbers are."""
    least: int | None = None
    """May be clipped to this width; None: never clipped while there is another way."""

    @property
    def wanted(self) -> int:
        """The width at which nothing is clipped."""
        return max([len(self.title), *(cell.cell_len for cell in self.cells)])

    @property
    def minimum(self) -> int:
        """The width below which it is not worth showing."""
        return self.wanted if self.least is None else min(self.least, self.wanted)


def lay_out(columns: Sequence[Column], width: int) -> list[Text]:
    """A line of titles and one a row, all of the same width, which is at most `width`."""
    shown = _chosen(columns, width)
    widths = _widths(shown, width)
    rows = zip(*(column.cells for column in shown), strict=True)
    titles = [Text(column.title, style="dim") for column in shown]
    return [_line(shown, widths, cells) for cells in ([titles, *rows] if shown else [])]


def _chosen(columns: Sequence[Column], width: int) -> list[Column]:
    shown = [column for column in columns if column.rank == 0 or any(cell.plain for cell in column.cells)]
    while sum(column.minimum + GAP for column in shown) - GAP > width:
        least = max(shown, key=lambda column: column.rank)
        if least.rank == 0:
            break
        shown.remove(least)
    return shown


def _widths(shown: Sequence[Column], width: int) -> list[int]:
    """Minimums first; what is left goes cell by cell to those columns that want more and have least."""
    widths = [column.minimum for column in shown]
    wanted = [column.wanted for column in shown]
    left = width - sum(widths) - GAP * (len(shown) - 1)
    while left > 0 and (wanting := [each for each in range(len(shown)) if widths[each] < wanted[each]]):
        widths[min(wanting, key=widths.__getitem__)] += 1
        left -= 1
    while left < 0 and (widest := max(widths)) > 1:
        widths[widths.index(widest)] -= 1
        left += 1
    return widths


def _line(shown: Sequence[Column], widths: Sequence[int], cells: Sequence[Text]) -> Text:
    fields = [fitted(cell, width, right=column.right) for column, width, cell in zip(shown, widths, cells, strict=True)]
    return Text(" " * GAP).join(fields)


def footer(known: Freshness, zone: tzinfo) -> Text:
    """Up to when an answer is complete, and how far that is behind."""
    complete = f"complete up to {clock(known.complete_until, zone)}, " if known.HasField("complete_until") else ""
    return Text(f"{complete}lag {lag(known)}", style="dim")


def lag(known: Freshness) -> str:
    """`none`, `1.84 s`, or `all` where nothing is known to be complete."""
    if not known.lag_ms:
        return "none"
    return duration(known.lag_ms * 1_000) if known.complete_until.seconds else "all"


def list_footer(rows: int, known: Freshness, next_page_token: str, zone: tzinfo) -> list[Text]:
    """The same for a list: how long it is, and, in a line to copy, where it goes on."""
    shown = Text(f"{rows:,} shown · ", style="dim").append_text(footer(known, zone))
    return [shown, Text(f"more: --page-token {inert(next_page_token)}", style="dim")] if next_page_token else [shown]
