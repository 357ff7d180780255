"""Ids, positions, and what is told to people."""

import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream import _guard
from lodestream._guard import guarded, report, tell
from lodestream._ids import new_span_id, new_trace_id, parse_id, seeded_trace_id
from lodestream._position import Positions

# --- Ids --------------------------------------------------------------------------------------------------------------


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


# --- Positions --------------------------------------------------------------------------------------------------------


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


# --- What is told -----------------------------------------------------------------------------------------------------


def test_each_subject_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        tell("a", "told")
    tell("b", "told too")
    assert [record.message for record in caplog.records] == ["told", "told too"]


def test_subjects_are_bounded() -> None:
    for number in range(10_000):
        tell(f"subject {number}", "x")
    assert len(_guard._told) <= 1000


def test_logging_that_fails_is_no_matter() -> None:
    def fail(_record: logging.LogRecord) -> bool:
        raise RuntimeError("mine")

    _guard.log.addFilter(fail)
    try:
        tell("a", "told")
        report("doing", ValueError("x"))
    finally:
        _guard.log.removeFilter(fail)


def test_what_is_guarded_raises_only_where_tests_ask_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @guarded("instead")
    def fail() -> str:
        raise ValueError("why")

    monkeypatch.delenv("LODESTREAM_STRICT", raising=False)
    assert fail() == "instead"
    assert "ValueError: why" in caplog.text
    monkeypatch.setenv("LODESTREAM_STRICT", "1")
    with pytest.raises(ValueError, match="why"):
        fail()
