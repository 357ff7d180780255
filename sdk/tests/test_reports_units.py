"""Numbers in people's units."""

import math

import pytest
from lodestream_evals.reports._readable import inert, one_line, readable, shortened
from lodestream_evals.reports._units import Kind, interval, number, seconds, shown, signed, usd


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Kind.SHARE, 0.82, "82.0 %"),
        (Kind.USD, 0.0012, "$0.0012"),
        (Kind.SECONDS, 1.3, "1.3 s"),
        (Kind.NUMBER, 0.71346, "0.7135"),
        (Kind.NUMBER, 12.0, "12"),
        (Kind.NUMBER, 123_456.78, "123,456.8"),
        (Kind.NUMBER, math.nan, "nan"),
        (Kind.SHARE, math.inf, "inf"),
    ],
)
def test_values_have_their_units(kind: Kind, value: float, expected: str) -> None:
    assert shown(kind, value) == expected


def test_differences_have_signs_and_shares_points() -> None:
    assert signed(Kind.SHARE, -0.07) == "-7.0 pp"
    assert signed(Kind.SECONDS, 0.21) == "+210 ms"
    assert signed(Kind.USD, -0.00002) == "-$0.000020"
    assert signed(Kind.NUMBER, math.nan) == "nan"
    assert interval(Kind.SHARE, -0.12, 0.02) == "[-12.0, +2.0] pp"
    assert interval(Kind.SECONDS, -0.1, 2) == "[-100 ms, +2.0 s]"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 s"), (0.000_42, "420 µs"), (0.412, "412 ms"), (0.9996, "1.0 s"), (59.94, "59.9 s"), (59.96, "1m 00s"),
     (125, "2m 05s"), (3_720, "1h 02m"), (-1.5, "-1.5 s")],
)  # fmt: skip
def test_seconds(value: float, expected: str) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "$0"), (0.0721, "$0.072"), (0.99951, "$1.00"), (12.345, "$12.35"), (1_234.5, "$1,234"), (1e-15, "$<1e-12")],
)
def test_prices(value: float, expected: str) -> None:
    assert usd(value) == expected


def test_json_reads_as_what_it_says() -> None:
    assert readable('"plain"') == "plain"
    assert readable('{"a": "ü"}') == '{"a": "ü"}'
    assert readable("not json") == "not json"
    assert readable("[" * 100_000) == "[" * 100_000


def test_what_acts_is_shown_and_what_is_long_is_cut() -> None:
    assert inert("a\x1b\x00\n\u202e\x7f") == "a␛␀␊\\u202e␡"
    assert inert("a\n\tb", lines=True) == "a\n\tb"
    assert one_line("a\n  b\tc", 80) == "a b c"
    assert one_line("x" * 100, 10) == "x" * 9 + "…"
    assert shortened("x" * 12, 10) == "x" * 10 + "… (2 more characters)"
    assert number(1e300) == "1e+300"
