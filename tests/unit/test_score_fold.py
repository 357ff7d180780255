"""What one event of a score comes to, and what can't become a row."""

from datetime import timedelta
from uuid import UUID

import pytest
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
    ScoreCategory,
    ScoreConfigDefined,
    ScoreRecorded,
    ScoreRetracted,
    ScoreTarget,
    ScoreValue,
)

from services.projections.scores.fold import AHEAD, PoisonedScoreError, first_tellings, fold, row_of
from services.projections.scores.rows import ConfigRow, ScoreRow
from shared.event_log.codec import LogRecord
from tests.support.records import NOON, event, span
from tests.support.scores import config, retraction, score, score_event, score_record, trace


def row(payload, **options) -> ScoreRow:
    found = row_of(score_record(score_event(payload, **{"number": 1, **options})))
    assert isinstance(found, ScoreRow)
    return found


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (score("s", 0.5), (SCORE_TYPE_NUMERIC, 0.5, None)),
        (score("s", value=True), (SCORE_TYPE_BOOLEAN, 1.0, "true")),
        (score("s", value=False), (SCORE_TYPE_BOOLEAN, 0.0, "false")),
        (score("s", "good"), (SCORE_TYPE_CATEGORICAL, None, "good")),
        (score("s", "good", category_value=2.0), (SCORE_TYPE_CATEGORICAL, 2.0, "good")),
    ],
)
def test_a_value_is_a_number_where_it_has_one(payload, expected) -> None:
    found = row(payload)
    assert (found.type, found.number, found.label) == expected


def test_a_text_is_never_a_number() -> None:
    told = score("s", category_value=3.0)
    told.value.CopyFrom(ScoreValue(text="too long an answer"))
    found = row(told)
    assert (found.type, found.number, found.label) == (SCORE_TYPE_TEXT, None, "too long an answer")


def test_the_time_is_the_authors_unless_it_lies_in_the_future_of_the_gateway() -> None:
    assert row(score("s"), at_s=-86_400.0).scored_at == NOON - timedelta(days=1)
    assert row(score("s"), at_s=3_600.0, received_at=NOON).scored_at == NOON + AHEAD
    assert row(score("s"), at_s=None, received_at=NOON).scored_at == NOON


def test_a_retraction_has_no_value() -> None:
    found = row(retraction("s", target=trace(3, 4), reason="a mistake"))
    assert (found.retracted, found.retraction_reason, found.name, found.number) == (True, "a mistake", None, None)
    assert (found.trace_id, found.span_id) == ((3).to_bytes(16, "big"), (4).to_bytes(8, "big"))


def test_a_config_keeps_its_categories_in_order() -> None:
    categories = [ScoreCategory(label="bad", value=0), ScoreCategory(label="good", value=1)]
    told = config("c", type=SCORE_TYPE_CATEGORICAL, categories=categories, archived=True)
    found = row_of(score_record(score_event(told, number=7)))
    assert isinstance(found, ConfigRow)
    assert (found.labels, found.label_values, found.archived) == (["bad", "good"], [0.0, 1.0], True)
    assert (found.min_value, found.max_value, found.event_id) == (None, None, UUID(int=7))


def test_a_config_keeps_its_bounds() -> None:
    found = row_of(score_record(score_event(config("c", min_value=0, max_value=5), number=7)))
    assert isinstance(found, ConfigRow)
    assert (found.min_value, found.max_value) == (0.0, 5.0)


def poison() -> list[tuple[str, LogRecord]]:
    nowhere, everywhere = score("s"), score("s", target=ScoreTarget(trace_id=bytes(15) + b"1", run_id="r"))
    nowhere.target.Clear()
    span_only = score("s", target=ScoreTarget(span_id=bytes(7) + b"1", session_id="s"))
    worthless = score("s")
    worthless.ClearField("value")
    nameless = score_event(score("s"), number=1)
    nameless.event_id = "7"
    late = score_event(score("s"), number=1)
    late.occurred_at.seconds = 10**12
    told: list[tuple[str, ScoreRecorded | ScoreRetracted | ScoreConfigDefined]] = [
        ("target: is nothing", nowhere), ("trace_id and run_id", everywhere), ("target", span_only),
        ("value: is missing", worthless), ("value.numeric", score("s", float("nan"))),
        ("value.numeric", score("s", float("-inf"))), ("category_value", score("s", "a", category_value=float("inf"))),
        ("score_id: is missing", score("")), ("name: is missing", score("s", name="")),
        ("score_id: is missing", retraction("")), ("config_id: is missing", config("")),
    ]  # fmt: skip
    return [
        *((reason, score_record(score_event(payload, number=1))) for reason, payload in told),
        ("event_id: '7' is no UUID", score_record(nameless)),
        ("", score_record(late)),
        ("not an Event", score_record(b"\xff")),
        ("spans_recorded, which does not belong", score_record(event([span(1, 1)]))),
        ("unknown kind", score_record(Event(project_id="p"))),
    ]


@pytest.mark.parametrize(("reason", "record"), poison())
def test_what_cannot_be_a_row_is_set_aside_alone_with_the_reason(reason: str, record: LogRecord) -> None:
    good = score_record(score_event(score("good"), number=2), offset=1)
    folded = fold([record, good])
    assert [row.score_id for _, row in folded.scores] == ["good"]
    (letter,) = folded.dead_letters
    assert reason in letter.reason
    assert (letter.offset, letter.raw) == (0, record.raw)


def test_a_record_of_nobodys_project_is_not_folded() -> None:
    with pytest.raises(PoisonedScoreError):
        row_of(score_record(score_event(score("s"), number=1, project="")))


def test_of_one_events_tellings_the_first_counts_in_any_order() -> None:
    early, late = row(score("s", 1.0), at_s=1.0), row(score("s", 2.0), at_s=2.0)
    same_time = [row(score("s", value), at_s=1.0) for value in (1.0, 5.0, 7.0)]
    for told in ([early, late], [late, early]):
        assert first_tellings(told) == [early]
    assert first_tellings(same_time) == first_tellings(same_time[::-1])
