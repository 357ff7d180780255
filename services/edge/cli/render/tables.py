"""Tables that fit a width, and the line below a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from lodestream_proto.v1.query_pb2 import Freshness
from rich.text import Text

from services.edge.cli.render.quantities import clock, duration
from services.edge.cli.render.text import escape_control, fit

GAP = 2  # cells between columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table. One that has no text in any row is left out."""

    title: str
    cells: Sequence[Text]
    rank: int = 0
    """0: always shown; of the others the highest is left out first."""
    right: bool = False
    """Aligned to the right, as numbers are."""
    min_width: int | None = None
    """May be clipped to this width; None: never clipped while there is another way."""

    @property
    def full_width(self) -> int:
        """The width at which nothing is clipped."""
        return max([len(self.title), *(cell.cell_len for cell in self.cells)])

    @property
    def narrowest(self) -> int:
        """The width below which it is not worth showing."""
        return self.full_width if self.min_width is None else min(self.min_width, self.full_width)


def lay_out(columns: Sequence[Column], width: int) -> list[Text]:
    """The table's lines: the titles, then one per row, all equally wide and at most `width` cells."""
    visible = _chosen(columns, width)
    widths = _widths(visible, width)
    rows = zip(*(column.cells for column in visible), strict=True)
    titles = [Text(column.title, style="dim") for column in visible]
    return [_line(visible, widths, cells) for cells in ([titles, *rows] if visible else [])]


def _chosen(columns: Sequence[Column], width: int) -> list[Column]:
    visible = [column for column in columns if column.rank == 0 or any(cell.plain for cell in column.cells)]
    while sum(column.narrowest + GAP for column in visible) - GAP > width:
        dropped = max(visible, key=lambda column: column.rank)
        if dropped.rank == 0:
            break
        visible.remove(dropped)
    return visible


def _widths(visible: Sequence[Column], width: int) -> list[int]:
    """Give each column its minimum, then the remaining cells one by one to the narrowest that want more."""
    widths = [column.narrowest for column in visible]
    full_widths = [column.full_width for column in visible]
    remaining = width - sum(widths) - GAP * (len(visible) - 1)
    while remaining > 0 and (growing := [each for each in range(len(visible)) if widths[each] < full_widths[each]]):
        widths[min(growing, key=widths.__getitem__)] += 1
        remaining -= 1
    while remaining < 0 and (widest := max(widths)) > 1:
        widths[widths.index(widest)] -= 1
        remaining += 1
    return widths


def _line(visible: Sequence[Column], widths: Sequence[int], cells: Sequence[Text]) -> Text:
    fields = [fit(cell, width, right=column.right) for column, width, cell in zip(visible, widths, cells, strict=True)]
    return Text(" " * GAP).join(fields)


def footer(freshness: Freshness, zone: tzinfo) -> Text:
    """Up to when an answer is complete, and how far the read model lags."""
    complete = (
        f"complete up to {clock(freshness.complete_until, zone)}, " if freshness.HasField("complete_until") else ""
    )
    return Text(f"{complete}lag {lag(freshness)}", style="dim")


def lag(freshness: Freshness) -> str:
    """`none`, `1.84 s`, or `all` where nothing is known to be complete."""
    if not freshness.lag_ms:
        return "none"
    return duration(freshness.lag_ms * 1_000) if freshness.complete_until.seconds else "all"


def list_footer(rows: int, freshness: Freshness, next_page_token: str, zone: tzinfo) -> list[Text]:
    """The line below a list: how many rows it has, its freshness, and the option that shows the next page."""
    shown = Text(f"{rows:,} shown · ", style="dim").append_text(footer(freshness, zone))
    return (
        [shown, Text(f"next page: --page-token {escape_control(next_page_token)}", style="dim")]
        if next_page_token
        else [shown]
    )
