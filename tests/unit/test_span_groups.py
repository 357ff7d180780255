"""What matters of a trace is shown, everything else is counted once, and how much is shown is bounded."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1.trace_pb2 import LEVEL_DEFAULT, LEVEL_ERROR

from services.read.query.span_groups import MAX_GROUPS_OF_PARENT, choose_spans, group_hidden
from services.read.query.span_tree import COLUMNS, NONE, SpanTree

Row = tuple[int, int, int, int, str, int]
"""Id, parent, start, end, name, level."""


def tree(*rows: Row) -> SpanTree:
    made = [(id_, parent, start, end, hash(name), 1, level) for id_, parent, start, end, name, level in rows]
    return SpanTree.of(np.array(made, COLUMNS))


def crawl(pages: int, *, errors: tuple[int, ...] = ()) -> SpanTree:
    """A root, an agent below it that embeds many pages one after the other, some of which fail."""
    steps: list[Row] = [
        (3 + n, 2, 10 * n, 10 * n + 5, "embed", LEVEL_ERROR if n in errors else LEVEL_DEFAULT) for n in range(pages)
    ]
    end = 10 * pages
    return tree((1, 0, 0, end, "crawl", LEVEL_DEFAULT), (2, 1, 0, end, "agent", LEVEL_DEFAULT), *steps)


def shown_ids(of: SpanTree, *, most: int = 40, depth: int = 0, errors_only: bool = False) -> set[int]:
    chosen = choose_spans(of, most=most, depth=depth, errors_only=errors_only)
    return {int(number) for number in of.spans["span_id"][chosen]}


def test_errors_are_shown_with_what_is_above_them() -> None:
    assert shown_ids(crawl(5_000, errors=(4_321,)), errors_only=True) == {1, 2, 3 + 4_321}
    assert 3 + 4_321 in shown_ids(crawl(5_000, errors=(4_321,)))


def test_of_errors_that_went_up_the_one_where_they_began_is_meant() -> None:
    failed = tree(
        (1, 0, 0, 99, "root", LEVEL_ERROR),
        (2, 1, 0, 99, "agent", LEVEL_ERROR),
        *[(3 + n, 2, n, n + 1, "step", LEVEL_DEFAULT) for n in range(90)],
        (93, 2, 95, 96, "step", LEVEL_ERROR),
    )
    assert shown_ids(failed, most=16) >= {1, 2, 93}


def test_many_alike_are_one_group() -> None:
    of = crawl(5_000, errors=(17, 18))
    shown = choose_spans(of, most=40, depth=0, errors_only=False)
    (group,) = group_hidden(of, shown)
    assert len(shown) + group.span_count == len(of)
    assert (group.parent, group.descendant_count, group.max_duration) == (1, 0, 5)
    assert group.duration == 5 * group.span_count
    assert group.example is not None
    assert of.spans["name"][group.example] == hash("embed")


def test_what_is_below_a_folded_span_is_counted_with_it() -> None:
    of = tree(
        (1, 0, 0, 100, "root", LEVEL_DEFAULT),
        (2, 1, 0, 50, "a", LEVEL_DEFAULT),
        (3, 2, 0, 40, "b", LEVEL_DEFAULT),
        (4, 3, 0, 30, "c", LEVEL_ERROR),
        (5, 1, 60, 70, "a", LEVEL_DEFAULT),
    )
    (group,) = group_hidden(of, np.array([0]))
    assert (group.span_count, group.descendant_count, group.error_count, group.duration) == (2, 2, 1, 60)
    assert (group.start, group.end) == (0, 70)


def test_a_depth_shows_so_many_levels_and_nothing_else() -> None:
    failed = crawl(500, errors=(7,))
    assert shown_ids(failed, depth=2) == {1, 2}
    assert len(shown_ids(failed, depth=3, most=502)) == 502
    assert shown_ids(failed, depth=3, errors_only=True) == {1, 2, 3 + 7}
    assert shown_ids(failed, depth=2, errors_only=True) == set()


def test_a_chain_deeper_than_what_may_be_shown_is_shown_from_its_top() -> None:
    chain = tree(*[(n, n - 1, n, 10_000 - n, "step", LEVEL_DEFAULT) for n in range(1, 3_001)])
    assert shown_ids(chain, most=50) == set(range(1, max(shown_ids(chain, most=50)) + 1))
    (group,) = group_hidden(chain, choose_spans(chain, most=50, depth=0, errors_only=False))
    assert group.span_count == 1
    assert group.descendant_count >= 3_000 - 51


def test_a_trace_for_which_there_is_room_is_shown_whole() -> None:
    of = crawl(38)
    shown = choose_spans(of, most=40, depth=0, errors_only=False)
    assert (len(shown), group_hidden(of, shown)) == (40, [])


def test_many_names_below_one_span_are_few_groups() -> None:
    of = tree(
        (1, 0, 0, 9, "root", LEVEL_DEFAULT),
        *[(2 + n, 1, 1, 2, f"name {n % 50}", LEVEL_DEFAULT) for n in range(1_000)],
    )
    groups = group_hidden(of, np.array([0]))
    assert len(groups) == MAX_GROUPS_OF_PARENT
    assert sum(group.span_count for group in groups) == 1_000
    assert [group.example is None for group in groups] == [False] * (MAX_GROUPS_OF_PARENT - 1) + [True]


rows = st.lists(
    st.tuples(
        st.integers(1, 40), st.integers(0, 42), st.integers(0, 9), st.integers(0, 20), st.sampled_from("abcdefghijk"),
        st.sampled_from([LEVEL_DEFAULT, LEVEL_ERROR]),
    ),
    min_size=1,
    max_size=60,
)  # fmt: skip


@given(rows, st.integers(1, 20), st.integers(0, 3), st.booleans())
def test_every_span_is_shown_or_counted_once(shape: list[Row], most: int, depth: int, errors_only: bool) -> None:
    of = tree(*shape)
    shown = choose_spans(of, most=most, depth=depth, errors_only=errors_only)
    assert len(shown) <= most
    assert all(of.parents[at] == NONE or of.parents[at] in shown for at in shown)
    groups = group_hidden(of, shown)
    assert len(shown) + sum(group.span_count + group.descendant_count for group in groups) == len(of)
    errors = of.spans["level"] == LEVEL_ERROR
    assert errors[shown].sum() + sum(group.error_count for group in groups) == errors.sum()
    assert all(group.parent == NONE or group.parent in shown for group in groups)
    assert len({(group.parent, group.example) for group in groups}) == len(groups)
    assert len(groups) <= MAX_GROUPS_OF_PARENT * (len(shown) + 1)
