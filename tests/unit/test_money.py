"""Amounts of money in dollars and picodollars."""

from hypothesis import given
from hypothesis import strategies as st

from services.read.query.money import to_dollars, to_picodollars


def test_a_dollar_is_a_million_million_picodollars() -> None:
    assert to_picodollars(1.5) == 1_500_000_000_000
    assert to_dollars(250_000_000) == 0.00025


@given(st.integers(0, 2**53))
def test_an_amount_comes_back_as_it_was_up_to_what_a_float_holds(picodollars: int) -> None:
    assert abs(to_picodollars(to_dollars(picodollars)) - picodollars) <= 1
