"""Every span has its place in the tree, whatever was sent."""

from hypothesis import given
from hypothesis import strategies as st

from services.edge.cli.render.trace import branches
from tests.unit.cli_spans import span


def drawn(*spans) -> list[str]:
    return [f"{branch.stem}{int(branch.span.span_id, 16)}" for branch in branches(spans)]


def test_children_hang_below_their_parent_in_the_order_of_their_start() -> None:
    assert drawn(span(4, 1, start=9), span(1, 0), span(3, 2, start=3), span(2, 1, start=2), span(5, 4, start=10)) == [
        "1",
        "├─ 2",
        "│  └─ 3",
        "└─ 4",
        "   └─ 5",
    ]


def test_a_span_whose_parent_is_missing_stands_at_the_top_and_is_marked() -> None:
    tops = branches([span(1, 0), span(2, 99, start=5), span(3, 2, start=6)])
    assert [(branch.depth, branch.parent_missing) for branch in tops] == [(0, False), (0, True), (1, False)]


def test_circles_are_cut_at_their_earliest_span() -> None:
    assert drawn(span(1, 3, start=2), span(2, 1, start=3), span(3, 2, start=1)) == ["3", "└─ 1", "   └─ 2"]
    assert drawn(span(1, 1)) == ["1"]
    assert branches([span(1, 1)])[0].parent_missing


def test_an_id_that_came_on_two_days_is_shown_twice_with_its_children_once() -> None:
    assert drawn(span(1, 0), span(1, 0, start=5), span(2, 1, start=1)) == ["1", "└─ 2", "1"]


def test_a_trace_ten_thousand_levels_deep_is_drawn_with_short_stems() -> None:
    deep = branches([span(number, number - 1, start=number) for number in range(1, 10_001)])
    assert len(deep) == 10_000
    assert max(len(branch.stem) for branch in deep) < 60
    assert "…9999 " in deep[-1].stem


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 5)), max_size=30))
def test_every_span_is_drawn_once(shape: list[tuple[int, int, int]]) -> None:
    spans = [span(number, parent, start=start) for number, parent, start in shape]
    assert sorted(id(branch.span) for branch in branches(spans)) == sorted(map(id, spans))
