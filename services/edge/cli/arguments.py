"""What people type for durations, instants and ids, and what it means."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import typer
from lodestream_proto.v1.query_pb2 import ScoreCondition

T = TypeVar("T")

LATEST = "latest"
_UNITS = {"us": 1, "µs": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_LONGEST = 36_525 * _UNITS["d"]
_AMOUNT = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s?(us|µs|ms|s|m|h|d)", re.ASCII)
_SCORE = re.compile(r"(?P<name>[^<>=]+)(?:(?P<how>>=|<=|=)(?P<value>.+))?")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")


def duration(text: str) -> timedelta:
    """`250ms`, `2s`, `1.5h`, `1h30m`, `7d`.

    Raises ValueError for anything else.
    """
    spelled = text.strip().lower()
    amounts = list(_AMOUNT.finditer(spelled))
    if not amounts or "".join(amount[0] for amount in amounts) != spelled:
        raise ValueError(f"{text!r} is not a duration: write 250ms, 2s, 15m, 1.5h or 7d")
    microseconds = round(sum(float(amount[1]) * _UNITS[amount[2]] for amount in amounts))
    if microseconds > _LONGEST:
        raise ValueError(f"{text!r} is longer than a hundred years")
    return timedelta(microseconds=microseconds)


def instant(text: str) -> datetime:
    """Parse an ISO 8601 date, or date and time, in the local time zone where it names none.

    Raises ValueError for anything else.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time: write 2026-03-01, 2026-03-01T12:00 or 2026-03-01T12:00Z") from None


def trace_id(text: str) -> str:
    """Parse a trace id of 32 hex digits, or `latest`.

    Raises ValueError for anything else.
    """
    spelled = text.strip().lower()
    if spelled != LATEST and not _TRACE_ID.fullmatch(spelled):
        raise ValueError(f"{text!r} is not a trace id: write all of its 32 hex digits, or {LATEST!r}")
    return spelled


def full_trace_id(text: str) -> str:
    """Parse a trace id of 32 hex digits.

    Raises ValueError for anything else.
    """
    if not _TRACE_ID.fullmatch(spelled := text.strip().lower()):
        raise ValueError(f"{text!r} is not a trace id: write all of its 32 hex digits")
    return spelled


def score_condition(text: str) -> ScoreCondition:
    """`helpful`, `helpful>=0.5`, `helpful<=0.2`, `tone=kind`; true and false are the numbers 1 and 0.

    Raises ValueError for anything else.
    """
    match = _SCORE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a score: write helpful, helpful>=0.5, helpful<=0.2 or tone=kind")
    name, operator, value = match["name"].strip(), match["how"], (match["value"] or "").strip()
    if operator is None:
        return ScoreCondition(name=name)
    number = {"true": 1.0, "false": 0.0}.get(value.lower())
    try:
        number = float(value) if number is None else number
    except ValueError:
        if operator == "=":
            return ScoreCondition(name=name, categories=[value])
        raise ValueError(f"{value!r} in {text!r} is not a number") from None
    return ScoreCondition(
        name=name, min_value=None if operator == "<=" else number, max_value=None if operator == ">=" else number
    )


def typed(read: Callable[[str], T]) -> Callable[[str], T]:
    """`read` as the parser of an option: what it raises is a mistake on the command line."""

    def parse(text: str) -> T:
        try:
            return read(text)
        except ValueError as mistake:
            raise typer.BadParameter(str(mistake)) from None

    return parse
