"""Ids are as W3C Trace Context wants them, also in the child of a fork."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream._ids import new_span_id, new_trace_id, parse_id, seeded_trace_id


def test_ids_of_a_child_are_not_those_of_its_parent() -> None:
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, f"{new_trace_id():032x}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 32).decode() != f"{new_trace_id():032x}"
    os.close(reading)
    os.close(writing)


def test_ids_have_their_size_and_differ() -> None:
    assert all(0 < new_trace_id() < 1 << 128 and 0 < new_span_id() < 1 << 64 for _ in range(1000))
    assert len({new_span_id() for _ in range(1000)}) == 1000


@given(st.text(st.characters(codec=None)))
def test_a_seed_gives_an_id(seed: str) -> None:
    assert parse_id(seeded_trace_id(seed), 32)
    assert seeded_trace_id(seed) == seeded_trace_id(seed)


@pytest.mark.parametrize("text", ["", "0" * 16, "g" * 16, "1" * 15, "1" * 17, " " + "1" * 15, "1_" * 8, "+" + "1" * 15])
def test_what_is_no_id_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not an id: 16 hex digits"):
        parse_id(text, 16)
