"""Positions: the furthest of each partition, from whatever servers tell."""

from hypothesis import given
from hypothesis import strategies as st
from lodestream._delivery.transport import Positions


def test_the_furthest_of_each_partition_is_kept() -> None:
    positions = Positions()
    for token in ("t:1:5", "t:0:9,t:1:3", "t:1:6"):
        positions.add(token)
    assert positions.token == "t:0:9,t:1:6"


def test_numbers_that_are_no_offsets_are_passed_over() -> None:
    positions = Positions()
    positions.add(f"t:0:{'9' * 5000},t:1:-1,t:2:1.5,t:3:")
    assert positions.token == ""


@given(st.lists(st.text(max_size=40)))
def test_any_token_is_harmless(tokens: list[str]) -> None:
    positions = Positions()
    for token in tokens:
        positions.add(token)
    again = Positions()
    again.add(positions.token)
    assert again.token == positions.token
