"""Foreign text on a terminal: seen, never obeyed; and never wider than it may be."""

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from services.edge.cli.render.text import EscapingWriter, clip, escape_control, escape_control_lines, fit, flow, wrap

_ACTING = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J", "␛[2J"),  # clear the screen
        ("\x1b]52;c;ZXZpbA==\x07", "␛]52;c;ZXZpbA==␇"),  # write to the clipboard
        ("ok\rFAILED", "ok␍FAILED"),  # overwrite the line
        ("a\x9b31mb", "a\\u009b31mb"),  # an escape sequence in one C1 character
        ("\x7f\b", "␡␈"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),  # reads backwards from here on
        ("\u2066x\u2069\u200f", "\\u2066x\\u2069\\u200f"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),  # invisible
        ("\U000e0041", "\\U000e0041"),  # an invisible tag
        ("\ud800", "\\ud800"),  # half a character
        ("one\ntwo\u2028three", "one␊two\\u2028three"),
    ],
)
def test_what_acts_on_a_terminal_is_shown_instead(hostile: str, shown: str) -> None:
    assert escape_control(hostile) == shown


def test_text_that_is_only_seen_stays_as_it_is() -> None:
    for text in ("plain", "naïve 日本語 שלום 👍", "[bold]not markup[/bold]", "no\u00a0break", ""):
        assert escape_control(text) == text


@given(st.text())
def test_no_character_that_acts_survives(text: str) -> None:
    assert not {unicodedata.category(character) for character in escape_control(text)} & _ACTING


def test_lines_are_kept_where_lines_are_meant() -> None:
    assert escape_control_lines("a\r\n\tb\x1b\nc") == ["a", "    b␛", "c"]


@given(st.lists(st.text(), max_size=5))
def test_a_file_on_a_terminal_has_its_lines_and_nothing_that_acts(pieces: list[str]) -> None:
    terminal = io.StringIO(newline="")
    file = EscapingWriter(terminal)
    for piece in pieces:
        assert file.write(piece) == len(piece)
    shown = terminal.getvalue()
    assert {character for character in shown if unicodedata.category(character) in _ACTING} <= {"\n", "\t"}
    assert shown.count("\n") == sum(piece.count("\n") for piece in pieces)


def test_a_row_of_csv_on_a_terminal_is_a_line() -> None:
    terminal = io.StringIO(newline="")
    csv.writer(EscapingWriter(terminal)).writerow(["a", "\x1b[2J\x9b1m", "\u202egpj.exe", "two\nlines"])
    assert terminal.getvalue() == 'a,␛[2J\\u009b1m,\\u202egpj.exe,"two\nlines"\n'


@given(st.text(), st.integers(1, 40))
def test_fitted_text_has_exactly_its_width(text: str, width: int) -> None:
    for right in (False, True):
        assert fit(Text(escape_control(text)), width, right=right).cell_len == width


def test_clipping_says_that_something_is_missing() -> None:
    assert clip(Text("abcdef"), 4).plain == "abc…"
    assert clip(Text("abcd"), 4).plain == "abcd"
    assert clip(Text("日本語"), 4).cell_len <= 4


@given(st.text(), st.integers(2, 40))
def test_folded_text_is_whole_and_narrow(text: str, width: int) -> None:
    line = escape_control(text)
    pieces = wrap(line, width)
    assert "".join(pieces) == line
    assert all(cell_len(piece) <= width for piece in pieces)


def test_pieces_flow_into_lines() -> None:
    pieces = [Text(word) for word in ("one", "two", "three", "much-too-long-for-a-line")]
    lines = flow(pieces, 12, gap=" · ", indent=2)
    assert [line.plain for line in lines] == ["  one · two", "  three", "  much-too-…"]
