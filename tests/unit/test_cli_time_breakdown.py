"""The stacked bar of where the time went."""

from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1.trace_pb2 import Anatomy

from services.edge.cli.render.timeline import apportioned, time_breakdown


def drawn(spent: Anatomy, latency_us: int, width: int) -> list[str]:
    return [line.plain for line in time_breakdown(spent, latency_us, width)]


def test_each_kind_has_its_share() -> None:
    spent = Anatomy(retrieval_us=200_000, generation_us=500_000, tool_us=100_000, other_us=100_000, idle_us=100_000)
    assert drawn(spent, 1_000_000, 20) == [
        "████▓▓▓▓▓▓▓▓▓▓▒▒░░··",
        "█ retrieval 200 ms …",
        "▓ generation 500 ms…",
        "▒ tool 100 ms 10 %",
        "░ other 100 ms 10 %",
        "· idle 100 ms 10 %",
    ]


def test_kinds_that_ran_at_the_same_time_say_so() -> None:
    spent = Anatomy(retrieval_us=600_000, generation_us=600_000)
    assert drawn(spent, 1_000_000, 100) == [
        "█" * 50 + "▓" * 50,
        "█ retrieval 600 ms 60 %   ▓ generation 600 ms 60 %   (200 ms of it in parallel)",
    ]


def test_a_kind_that_took_hardly_any_time_is_still_seen() -> None:
    assert drawn(Anatomy(generation_us=999_999, tool_us=1), 1_000_000, 80)[0] == "▓" * 79 + "▒"


def test_a_trace_without_a_duration_has_no_anatomy() -> None:
    assert drawn(Anatomy(), 0, 80) == []


@given(st.lists(st.integers(0, 10**12), min_size=5, max_size=5), st.integers(5, 200))
def test_cells_are_given_out_exactly(parts: list[int], cells: int) -> None:
    given_out = apportioned(parts, cells)
    assert sum(given_out) == (cells if any(parts) else 0)
    assert all(bool(part) == bool(share) for part, share in zip(parts, given_out, strict=True))
