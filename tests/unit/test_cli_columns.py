"""Tables that fit: what matters least goes first."""

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from services.edge.cli.render.tables import Column, lay_out


def column(title: str, *cells: str, rank: int = 0, right: bool = False, min_width: int | None = None) -> Column:
    return Column(title=title, cells=[Text(cell) for cell in cells], rank=rank, right=right, min_width=min_width)


def shown(columns: list[Column], width: int) -> list[str]:
    return [line.plain for line in lay_out(columns, width)]


def test_a_table_with_room_is_as_wide_as_its_cells() -> None:
    assert shown([column("id", "a", "bbb"), column("time", "1 s", "10 s", right=True, rank=1)], 40) == [
        "id   time",
        "a     1 s",
        "bbb  10 s",
    ]


def test_the_least_important_column_goes_first() -> None:
    columns = [column("id", "abc"), column("user", "ada", rank=2), column("cost", "$1", rank=1)]
    assert shown(columns, 15)[0].split() == ["id", "user", "cost"]
    assert shown(columns, 14)[0].split() == ["id", "cost"]
    assert shown(columns, 8)[0].split() == ["id"]


def test_long_cells_shrink_before_a_column_goes() -> None:
    columns = [column("name", "a-rather-long-name", min_width=6), column("cost", "$1", rank=1)]
    assert shown(columns, 14) == ["name      cost", "a-rathe…  $1  "]


def test_columns_without_content_are_left_out() -> None:
    assert shown([column("id", "abc"), column("tags", "", rank=1)], 40) == ["id ", "abc"]


def test_the_identity_is_clipped_only_when_nothing_else_is_left() -> None:
    assert shown([column("id", "abcdef"), column("name", "xyz", rank=1)], 4) == ["id  ", "abc…"]


def test_no_rows_make_a_line_of_titles() -> None:
    assert shown([column("id"), column("name", min_width=3)], 20) == ["id  name"]


@given(
    st.lists(
        st.tuples(st.text(max_size=30), st.text(max_size=30), st.integers(0, 3), st.none() | st.integers(1, 9)),
        min_size=1,
        max_size=5,
    ),
    st.integers(20, 100),
)
def test_lines_are_equally_wide_and_fit(cells: list[tuple[str, str, int, int | None]], width: int) -> None:
    columns = [
        column("t", a.replace("\n", ""), b.replace("\n", ""), rank=rank, min_width=min_width)
        for a, b, rank, min_width in cells
    ]
    assert len({line.cell_len for line in lay_out(columns, width)}) <= 1
    assert all(line.cell_len <= width for line in lay_out(columns, width))
