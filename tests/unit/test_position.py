"""Position tokens: what a write answers with and a read waits for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.event_log.position import InvalidPositionError, Position, from_token, to_token

POSITIONS = st.builds(
    Position,
    st.sampled_from(["lodestream.traces", "lodestream.scores"]),
    st.integers(0, 11),
    st.integers(0, 2**53),
)


@given(st.lists(POSITIONS))
def test_a_token_names_the_last_record_of_each_partition(positions: list[Position]) -> None:
    read = from_token(to_token(positions))
    assert sorted((p.topic, p.partition) for p in read) == sorted({(p.topic, p.partition) for p in positions})
    for last in read:
        offsets = [p.offset for p in positions if (p.topic, p.partition) == (last.topic, last.partition)]
        assert last.offset == max(offsets)


@given(st.lists(POSITIONS))
def test_reading_a_token_gives_back_what_was_written(positions: list[Position]) -> None:
    token = to_token(positions)
    assert to_token(from_token(token)) == token


@pytest.mark.parametrize(
    "token",
    ["x", "lodestream.traces:1", "lodestream.traces:a:1", "a:1:2,", "a:1:-2", "a:1:2;b:1:2", "x" * 20_000, "a:1:٣"],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidPositionError):
        from_token(token)
