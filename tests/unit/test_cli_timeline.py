"""Bars and their axis."""

from hypothesis import given
from hypothesis import strategies as st

from services.edge.cli.render.timeline import axis, bar


def test_bars_lie_where_the_time_was_to_half_a_cell() -> None:
    assert bar(0, 100, whole=100, width=4, heavy=True) == "████"
    assert bar(0, 100, whole=100, width=4, heavy=False) == "━━━━"
    assert bar(50, 100, whole=100, width=4, heavy=True) == "  ██"
    assert bar(13, 62, whole=100, width=4, heavy=True) == "▐█▌ "
    assert bar(13, 62, whole=100, width=4, heavy=False) == "╺━╸ "


def test_even_the_shortest_span_is_seen() -> None:
    assert bar(0, 0, whole=1_000_000, width=4, heavy=True) == "▌   "
    assert bar(1_000_000, 1_000_000, whole=1_000_000, width=4, heavy=False) == "   ╺"
    assert bar(0, 0, whole=0, width=2, heavy=True) == "▌ "


@given(st.integers(-5, 200), st.integers(-5, 200), st.integers(0, 100), st.integers(1, 50), st.booleans())
def test_a_bar_is_as_wide_as_asked_and_never_empty(start: int, end: int, whole: int, width: int, heavy: bool) -> None:
    drawn = bar(start, end, whole=whole, width=width, heavy=heavy)
    assert len(drawn) == width
    assert drawn.strip()


def test_labels_begin_where_their_time_is() -> None:
    assert axis(2_000_000, 40) == "0         500 ms    1.00 s    1.50 s    "
    assert axis(2_000_000, 20) == "0         1.00 s    "


@given(st.integers(0, 10**13), st.integers(1, 200))
def test_an_axis_is_as_wide_as_asked(whole: int, width: int) -> None:
    assert len(axis(whole, width)) == width
