"""Which spans decided when a trace ended."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.read.query.critical_path import Node, critical_path
from tests.records import NOON

Told = tuple[str, str | None, int, int | None]


def moment(ms: int) -> datetime:
    return NOON + timedelta(milliseconds=ms)


def path(*told: Told) -> str:
    """Ids on the path, sorted; told as (id, parent, start, end)."""
    nodes: Sequence[Node] = [
        Node(name.encode(), parent.encode() if parent else None, moment(start), None if end is None else moment(end))
        for name, parent, start, end in told
    ]
    return "".join(sorted(name.decode() for name in critical_path(nodes)))


def test_of_parallel_children_the_last_to_end_decides() -> None:
    assert path(("r", None, 0, 100), ("a", "r", 0, 40), ("b", "r", 0, 90)) == "br"


def test_children_one_after_the_other_all_decide() -> None:
    assert path(("r", None, 0, 100), ("a", "r", 0, 40), ("b", "r", 40, 90), ("c", "r", 5, 30)) == "abr"


def test_it_goes_down_only_below_critical_spans() -> None:
    told: list[Told] = [("r", None, 0, 100), ("a", "r", 0, 40), ("b", "r", 0, 90), ("x", "a", 0, 39), ("y", "b", 1, 80)]
    assert path(*told) == "bry"


def test_orphans_count_as_top_level_and_running_spans_not_at_all() -> None:
    assert path(("a", "gone", 0, 40), ("b", "gone", 50, None), ("c", "b", 51, 60)) == "ac"


def test_cycles_end() -> None:
    assert path(("a", "b", 0, 10), ("b", "a", 0, 10), ("r", None, 0, 20), ("s", "s", 0, 5)) == "r"


def test_a_chain_of_thousands_is_no_recursion() -> None:
    told: list[Told] = [(chr(0x4E00 + n), chr(0x4E00 + n - 1) if n else None, 0, 100) for n in range(5_000)]
    assert len(path(*told)) == 5_000


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef"), st.integers(0, 9), st.integers(0, 9))))
def test_whatever_is_told_the_path_is_among_it(told: list[tuple[str, str, int, int]]) -> None:
    assert set(path(*told)) <= {name for name, *_ in told}
