"""The shape of a trace, whatever was sent, and which spans decided when it ended."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.read.query.span_tree import COLUMNS, NONE, RUNNING, SpanTree

Row = tuple[str, str | None, int, int | None]
"""Id, parent, start, end."""


def number(name: str) -> int:
    return int.from_bytes(name.encode())


def tree(*rows: Row) -> SpanTree:
    return SpanTree.of(
        np.array(
            [
                (number(name), number(parent or ""), start, RUNNING if end is None else end, 0, 1, 2)
                for name, parent, start, end in rows
            ],
            COLUMNS,
        )
    )


def names(ids: Sequence[bytes]) -> str:
    return "".join(id_.lstrip(b"\0").decode() for id_ in ids)


def path(*rows: Row) -> str:
    return "".join(sorted(names(sorted(tree(*rows).critical_ids(slice(None))))))


def test_of_parallel_children_the_last_to_end_decides() -> None:
    assert path(("r", None, 0, 100), ("a", "r", 0, 40), ("b", "r", 0, 90)) == "br"


def test_children_one_after_the_other_all_decide() -> None:
    assert path(("r", None, 0, 100), ("a", "r", 0, 40), ("b", "r", 40, 90), ("c", "r", 5, 30)) == "abr"


def test_it_goes_down_only_below_critical_spans() -> None:
    rows: list[Row] = [("r", None, 0, 100), ("a", "r", 0, 40), ("b", "r", 0, 90), ("x", "a", 0, 39), ("y", "b", 1, 80)]
    assert path(*rows) == "bry"


def test_orphans_count_as_top_level_and_running_spans_not_at_all() -> None:
    assert path(("a", "gone", 0, 40), ("b", "gone", 50, None), ("c", "b", 51, 60)) == "ac"


def test_circles_end() -> None:
    assert path(("a", "b", 0, 10), ("b", "a", 0, 10), ("r", None, 0, 20), ("s", "s", 0, 5)) == "r"


def test_a_chain_of_thousands_is_no_recursion() -> None:
    rows: list[Row] = [(chr(0x4E00 + n), chr(0x4E00 + n - 1) if n else None, 0, 100) for n in range(5_000)]
    chain = tree(*rows)
    assert len(chain.critical_ids(slice(None))) == 5_000
    assert sorted(chain.depths().tolist()) == list(range(5_000))


def test_spans_without_length_are_each_taken_once() -> None:
    assert path(("a", None, 5, 5), ("b", None, 5, 5), ("c", None, 0, 5)) == "abc"


def test_of_one_id_that_started_twice_the_later_counts() -> None:
    twice = tree(("a", None, 0, 9), ("r", None, 1, 9), ("a", "r", 5, 7))
    assert (names(twice.ids(slice(None))), twice.parents.tolist()) == ("ra", [NONE, 0])


def test_a_page_goes_on_behind_a_start_and_an_id_whether_or_not_they_are_there() -> None:
    pages = tree(("a", None, 0, 1), ("b", None, 5, 6), ("d", None, 5, 6), ("e", None, 7, 8))
    assert [pages.after(5, id_) for id_ in (b"a", b"b", b"c", b"d")] == [1, 2, 2, 3]
    assert (pages.after(-1, b"z"), pages.after(6, b"a"), pages.after(9, b"a")) == (0, 3, 4)


def test_below_a_span_is_itself_and_its_descendants() -> None:
    whole = tree(("r", None, 0, 9), ("a", "r", 1, 8), ("x", "a", 2, 3), ("y", "x", 2, 3), ("b", "r", 4, 5))
    part = whole.below(int(whole.positions([bytes(7) + b"a"])[0]))
    assert (names(part.ids(slice(None))), part.parents.tolist()) == ("axy", [NONE, 0, 1])


shapes = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh "), st.integers(0, 9), st.integers(-1, 9)),
    max_size=25,
)


@given(shapes)
def test_every_span_has_one_place_and_no_parent_is_above_itself(shape: list[tuple[str, str, int, int]]) -> None:
    whole = tree(*[(name, parent.strip(), start, None if end < 0 else end) for name, parent, start, end in shape])
    assert sorted(names(whole.ids(slice(None)))) == sorted({name for name, *_ in shape})
    for at in range(len(whole)):
        steps, above = 0, at
        while above != NONE:
            above, steps = int(whole.parents[above]), steps + 1
            assert steps <= len(whole)
        assert whole.depths()[at] == steps - 1
        part = whole.below(at)
        assert (part.parents == NONE).sum() == 1


@given(shapes)
def test_the_path_is_the_one_that_its_definition_gives(shape: list[tuple[str, str, int, int]]) -> None:
    """Sibling by sibling, as in words."""
    whole = tree(*[(name, parent.strip(), start, None if end < 0 else end) for name, parent, start, end in shape])
    starts, ends = whole.spans["start"].tolist(), whole.spans["end"].tolist()
    ended = {at for at in range(len(whole)) if ends[at] != RUNNING}
    children: dict[int, list[int]] = defaultdict(list)
    for at in ended:
        children[int(whole.parents[at]) if whole.parents[at] in ended else NONE].append(at)
    critical, pending = set(), [NONE]
    while pending:
        before = None
        for at in sorted(children[pending.pop()], key=lambda at: (ends[at], at), reverse=True):
            if before is None or ends[at] <= before:
                critical.add(at)
                pending.append(at)
                before = starts[at]
    assert set(np.flatnonzero(whole.critical).tolist()) == critical


def test_a_part_of_a_tree_knows_what_decided_in_the_whole() -> None:
    rows: list[Row] = [("r", None, 0, 100), ("a", "r", 0, 40), ("b", "r", 0, 90), ("x", "b", 0, 20), ("y", "b", 1, 80)]
    whole = tree(*rows)
    (position,) = whole.positions([b"b".rjust(8, b"\0")])
    part = whole.below(int(position))
    assert names(part.ids(slice(None))) == "bxy"
    assert names(sorted(part.critical_ids(slice(None)))) == "by"
    assert part.parents.tolist() == [NONE, 0, 0]
