"""Each field of a trace filter is one condition; a caller's text is always a parameter."""

from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.query_pb2 import TraceFilter
from lodestream_proto.v1.trace_pb2 import LEVEL_WARNING

from services.read.query.filters import Conditions, add_filter, containing, required, to_datetime
from shared.runtime.refusal import InvalidError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAME = "coalesce(name, '')"
LATENCY = "coalesce(latency_us, -1)"


@pytest.mark.parametrize(
    ("trace_filter", "sql", "parameters"),
    [
        (TraceFilter(), "", []),
        (TraceFilter(start_from=Timestamp(seconds=int(NOON.timestamp()))), " AND start_at >= $1", [NOON]),
        (TraceFilter(start_before=Timestamp(seconds=int(NOON.timestamp()))), " AND start_at < $1", [NOON]),
        (TraceFilter(names=["a"]), f" AND {NAME} = $1", ["a"]),
        (TraceFilter(user_ids=["a", "b"]), " AND user_id = ANY($1::text[])", [["a", "b"]]),
        (TraceFilter(session_ids=["s"]), " AND session_id = $1", ["s"]),
        (TraceFilter(environments=["e"]), " AND environment = $1", ["e"]),
        (TraceFilter(releases=["r"]), " AND release = $1", ["r"]),
        (TraceFilter(tags=["x", "y"]), " AND tags @> $1::text[] AND tags <> '{}'", [["x", "y"]]),
        (TraceFilter(min_level=LEVEL_WARNING), f" AND level >= {LEVEL_WARNING}", []),
        (TraceFilter(min_latency_us=0), f" AND {LATENCY} >= $1 AND latency_us IS NOT NULL", [0]),
        (TraceFilter(max_latency_us=9), f" AND {LATENCY} BETWEEN 0 AND $1", [9]),
        (TraceFilter(min_tokens=1), " AND total_tokens >= $1", [1]),
        (TraceFilter(max_tokens=2), " AND total_tokens <= $1", [2]),
        (TraceFilter(min_cost_usd=0), " AND cost_picos >= $1", [0]),
        (TraceFilter(max_cost_usd=0.25), " AND cost_picos <= $1", [250_000_000_000]),
        (TraceFilter(has_error=True), " AND level >= 4", []),
        (TraceFilter(has_error=False), " AND level < 4", []),
        (TraceFilter(name_contains="a%_\\b"), f" AND {NAME} ILIKE $1", ["%a\\%\\_\\\\b%"]),
    ],
)
def test_a_field_is_a_condition(trace_filter: TraceFilter, sql: str, parameters: list[object]) -> None:
    conditions = Conditions()
    add_filter(conditions, trace_filter)
    assert (conditions.sql(), conditions.parameters) == (sql, parameters)


def test_conditions_are_joined_and_numbered_after_the_parameters_of_the_statement() -> None:
    conditions = Conditions("acme")
    add_filter(conditions, TraceFilter(user_ids=["u"], min_tokens=5))
    assert conditions.take() == " AND user_id = $2 AND total_tokens >= $3"
    conditions.add("name = {}", "n")
    assert (conditions.sql(), conditions.parameters) == (" AND name = $4", ["acme", "u", 5, "n"])


@pytest.mark.parametrize(
    ("trace_filter", "field", "reason"),
    [
        (TraceFilter(names=["n"] * 101), "filter.names", "101 values; at most 100"),
        (TraceFilter(tags=["t"] * 101), "filter.tags", "101 values; at most 100"),
        (TraceFilter(user_ids=["a", "\0"]), "filter.user_ids", "a NUL character can't be looked for"),
        (TraceFilter(name_contains="\0"), "filter.name_contains", "a NUL character can't be looked for"),
        (TraceFilter(min_cost_usd=-0.5), "filter.min_cost_usd", "must be a number of at least 0 and below 9,000,000"),
        (TraceFilter(max_cost_usd=9e6), "filter.max_cost_usd", "must be a number of at least 0 and below 9,000,000"),
        (
            TraceFilter(max_cost_usd=float("nan")),
            "filter.max_cost_usd",
            "must be a number of at least 0 and below 9,000,000",
        ),
        (TraceFilter(start_from=Timestamp(seconds=2**62)), "filter.start_from", "the time is out of range"),
        (TraceFilter(start_before=Timestamp(seconds=-(2**62))), "filter.start_before", "the time is out of range"),
    ],
)
def test_what_no_index_can_answer_is_refused_with_its_field(trace_filter: TraceFilter, field: str, reason: str) -> None:
    with pytest.raises(InvalidError) as raised:
        add_filter(Conditions(), trace_filter)
    assert (raised.value.field, raised.value.why) == (field, reason)


def test_a_hundred_values_and_every_cost_below_nine_millions_are_taken() -> None:
    conditions = Conditions()
    add_filter(conditions, TraceFilter(names=[str(n) for n in range(100)], max_cost_usd=8_999_999))
    assert [conditions.parameters[0][99], conditions.parameters[1]] == ["99", 8_999_999 * 10**12]


def test_texts_are_checked_by_the_name_of_their_field() -> None:
    assert (required("run_id", "r"), containing("x")) == ("r", "%x%")
    with pytest.raises(InvalidError, match=r"^run_id: is missing$"):
        required("run_id", "")
    with pytest.raises(InvalidError, match=r"^query: a NUL"):
        containing("\0", "query")
    with pytest.raises(InvalidError, match=r"^filter.name_contains: a NUL"):
        containing("\0")
    assert to_datetime("at", Timestamp(seconds=0)) == datetime(1970, 1, 1, tzinfo=UTC)
