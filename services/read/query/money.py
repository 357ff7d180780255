"""Amounts of money: whole picodollars (10^-12 USD) where they are stored and summed, dollars where they are shown."""

PICODOLLARS_PER_DOLLAR = 10**12
"""How many picodollars make one dollar."""


def to_dollars(picodollars: float) -> float:
    """Return an amount in dollars; a whole number of picodollars is divided exactly and rounded once."""
    return picodollars / PICODOLLARS_PER_DOLLAR


def to_picodollars(dollars: float) -> int:
    """Return an amount in whole picodollars, rounded to the nearest."""
    return round(dollars * PICODOLLARS_PER_DOLLAR)
