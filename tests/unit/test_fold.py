"""A span's row is a function of the set of its tellings; a summary of any grouping of spans is the same."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_NONE
from lodestream_proto.v1.trace_pb2 import SPAN_TYPE_TOOL
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from services.projections.traces.batch import fold_records
from services.projections.traces.fold import MAX_REVISIONS, PoisonedSpanError, SpanRevision, fold, read_revision
from services.projections.traces.rows import SpanRef, SpanRow
from services.projections.traces.summary import summarise, union
from shared.event_log.codec import LogRecord
from shared.spans.blocks import open_block, sources_of
from tests.support.records import NOON, at, event, record, span

RECEIVED_US = int(NOON.timestamp()) * 1_000_000 + 5_000_000
DAY_US = 86_400_000_000


def told(*spans: Span, received_at_us: int = RECEIVED_US) -> list[SpanRevision]:
    """One telling each, in records of their own."""
    found = []
    for offset, one in enumerate(spans):
        recorded = event([one]).spans_recorded
        request = open_block(recorded.compression, recorded.otlp_request)
        part = SpanRef(received_at_us + offset, 0, offset, 0)
        found.append(read_revision(part, next(sources_of(request, sdk_name="", sdk_version=""))))
    return found


def folded(versions: Sequence[SpanRevision]) -> SpanRow:
    return fold(versions[0].key("p"), versions)


def test_a_start_and_an_end_are_one_span() -> None:
    started = span(1, 1, name="call", end_ms=None, attributes={"user.id": "ada", "input.value": "why?"})
    ended = span(1, 1, name="", end_ms=80, attributes={"output.value": "because"})
    ended.status.code = Status.STATUS_CODE_ERROR
    row = folded(told(started, ended))
    assert (row.name, row.user_id, row.input_preview, row.output_preview) == ("call", "ada", "why?", "because")
    assert row.end_at_us is not None
    assert row.end_at_us - row.start_at_us == 80_000
    assert [part.offset for part in row.parts] == [0, 1]


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(90)), st.lists(st.integers(1, 89), max_size=4))
def test_of_very_many_tellings_the_same_count_in_whatever_steps_they_come(order: list[int], cuts: list[int]) -> None:
    every = told(*(span(1, 1, end_ms=n + 1, attributes={"user.id": f"u{n:02}"}) for n in range(90)))
    every += [replace(each, ref=each.ref._replace(offset=each.ref.offset + 1000)) for each in every[::7]]
    at_once = folded(every)
    assert len(at_once.parts) == MAX_REVISIONS
    assert (at_once.user_id, at_once.parts[0].offset, at_once.parts[-1].offset) == ("u89", 0, 89)
    by_part = {each.ref: each for each in every}
    shuffled, kept = [every[n] for n in order] + every[90:], set[SpanRef]()
    for begin, end in pairwise([0, *sorted(cuts), len(shuffled)]):
        if told_now := shuffled[begin:end]:
            stored = folded(told_now).parts  # what the batch comes to, merged with what is stored
            row = folded([by_part[part] for part in kept | set(stored)])
            kept = set(row.parts)
    assert row == at_once


def test_equal_tellings_are_one_at_the_smallest_part() -> None:
    one = span(1, 1)
    assert [part.offset for part in folded(list(reversed(told(one, one, one)))).parts] == [0]


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "start_us", "end_us", "cleaned"),
    [
        (0, 0, RECEIVED_US, None, 1),
        (1, 2, RECEIVED_US, RECEIVED_US, 2),
        (2**64 - 1, 2**64 - 1, RECEIVED_US, RECEIVED_US, 2),
        ((RECEIVED_US + DAY_US) * 1000, 0, RECEIVED_US + DAY_US, None, 0),
        ((RECEIVED_US + DAY_US + 1) * 1000, 0, RECEIVED_US, None, 1),
        (RECEIVED_US * 1000, (RECEIVED_US - 7) * 1000, RECEIVED_US, RECEIVED_US, 1),
        (RECEIVED_US * 1000, 2**63, RECEIVED_US, RECEIVED_US, 1),
        (RECEIVED_US * 1000, (RECEIVED_US + 7) * 1000, RECEIVED_US, RECEIVED_US + 7, 0),
    ],
)
def test_absurd_clocks_are_brought_within_reason_and_counted(
    start_ns: int, end_ns: int, start_us: int, end_us: int | None, cleaned: int
) -> None:
    odd = span(1, 1)
    odd.start_time_unix_nano, odd.end_time_unix_nano = start_ns, end_ns
    row = folded(told(odd))
    assert (row.start_at_us, row.end_at_us, row.sanitized) == (start_us, end_us, cleaned)


def test_ids_that_are_none_poison_a_span() -> None:
    bad = span(1, 1)
    bad.span_id = b"short"
    with pytest.raises(PoisonedSpanError, match="span_id"):
        told(bad)


TELLING = st.builds(
    span,
    st.just(1),
    st.just(1),
    name=st.sampled_from(["", "a", "b"]),
    parent=st.sampled_from([None, 2, 3]),
    start_ms=st.integers(0, 5),
    end_ms=st.none() | st.integers(0, 9),
    attributes=st.dictionaries(
        st.sampled_from(["user.id", "llm.model_name", "input.value", "openinference.span.kind"]),
        st.sampled_from(["LLM", "TOOL", "x"]),
    ),
)


@given(st.lists(TELLING, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_row_does_not_depend_on_order_or_repetition(tellings: list[Span], choose) -> None:
    versions = told(*tellings)
    again = [*versions, *choose.choices(versions, k=3)]
    choose.shuffle(again)
    assert folded(again) == folded(versions)


SPANS = st.lists(
    st.builds(
        span,
        st.integers(1, 2),
        st.integers(1, 6),
        parent=st.sampled_from([None, 1]),
        start_ms=st.integers(0, 5),
        end_ms=st.none() | st.integers(0, 9),
        attributes=st.dictionaries(
            st.sampled_from(["user.id", "openinference.span.kind", "tag.tags"]),
            st.sampled_from(["LLM", "TOOL", "é", "Z"]),
        ),
    ),
    min_size=1,
    max_size=10,
)


@given(SPANS, st.randoms(use_true_random=False))
def test_summaries_do_not_depend_on_the_order_of_the_spans(spans: list[Span], choose) -> None:
    rows = fold_records([record([one], offset=n) for n, one in enumerate(spans)]).spans
    shuffled = list(rows)
    choose.shuffle(shuffled)
    summaries = summarise(shuffled)
    assert summaries == summarise(rows)
    assert [summary.trace_id for summary in summaries] == sorted({row.trace_id for row in rows})
    for summary in summaries:
        its = [row for row in rows if row.trace_id == summary.trace_id]
        assert summary.span_count == sum(summary.type_counts) == sum(summary.level_counts) == len(its)
        assert summary.start_at_us == min(row.start_at_us for row in its)
        assert summary.end_at_us == max((row.end_at_us for row in its if row.end_at_us is not None), default=None)
        assert summary.tags == sorted({tag for row in its for tag in row.tags or ()})
        users = [row.user_id for row in its if row.user_id is not None]
        assert summary.any_user_id == min(users, default=None)
        tools = [row for row in its if row.type == SPAN_TYPE_TOOL and row.end_at_us is not None]
        assert summary.tool_busy == union([(row.start_at_us, row.end_at_us or 0) for row in tools])
        roots = sorted((row.start_at_us, row.span_id) for row in its if row.is_root)
        assert (summary.root_start_at_us, summary.root_span_id) == (roots[0] if roots else (None, None))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8))
def test_a_union_covers_each_moment_once(intervals: list[tuple[int, int]]) -> None:
    merged = union(intervals)
    covered = {moment for start, end in intervals for moment in range(start, end)}
    assert {moment for start, end in merged for moment in range(start, end)} == covered
    assert all(a_end < b_start for (_, a_end), (b_start, _) in pairwise(merged))


def test_the_first_root_to_start_speaks_for_the_trace() -> None:
    spans = [
        span(1, 3, name="late root", start_ms=9),
        span(1, 2, name="root", start_ms=1, end_ms=50, attributes={"user.id": "ada"}),
        span(1, 1, name="child", parent=2, attributes={"user.id": "bob", "session.id": "s"}),
    ]
    (summary,) = summarise(fold_records([record(spans)]).spans)
    assert (summary.root_name, summary.root_user_id, summary.root_session_id) == ("root", "ada", None)
    assert (summary.any_user_id, summary.any_session_id) == ("ada", "s")


def test_sums_beyond_what_a_column_takes_are_capped_and_counted() -> None:
    usage = {"lodestream.observation.usage_details": f'{{"input": {2**48}, "input_cached_tokens": 1, "output": 3}}'}
    row = folded(told(span(1, 1, attributes=usage)))
    assert (row.input_tokens, row.output_tokens, row.total_tokens) == (2**48, 3, 2**48)
    assert row.sanitized == 2
    cost = {"lodestream.observation.cost_details": '{"input": 800000, "output": 400000}'}
    row = folded(told(span(1, 1, attributes=cost)))
    assert (row.cost_picos, row.sanitized) == (10**18, 1)
    most = {"lodestream.observation.usage_details": f'{{"input": {2**48 - 3}, "output": 3}}'}
    row = folded(told(span(1, 1, attributes=most)))
    assert (row.input_tokens, row.total_tokens, row.sanitized) == (2**48 - 3, 2**48, 0)


def test_a_record_without_a_time_of_receipt_was_received_when_it_was_appended() -> None:
    without = event([span(1, 1)])
    without.ClearField("received_at")
    (block,) = fold_records([at(without.SerializeToString())]).blocks
    assert block.received_at == at(b"").appended_at


def test_only_what_is_beyond_the_cap_is_counted() -> None:
    usage = {"lodestream.observation.usage_details": f'{{"input": {2**48}, "output": 3}}'}
    assert folded(told(span(1, 1, attributes=usage))).sanitized == 1, "the input is as much as a column takes"


def test_a_span_that_is_set_aside_keeps_its_place_and_what_surrounded_it() -> None:
    poisoned = span(1, 1)
    poisoned.span_id = b"short"
    whole = event([span(1, 2), poisoned])
    request = ExportTraceServiceRequest.FromString(
        open_block(whole.spans_recorded.compression, whole.spans_recorded.otlp_request).SerializeToString()
    )
    request.resource_spans[0].scope_spans[0].scope.name = "a library"
    whole.spans_recorded.compression = COMPRESSION_NONE
    whole.spans_recorded.otlp_request = request.SerializeToString()
    (letter,) = fold_records([at(whole.SerializeToString(), partition=3, offset=9)]).dead_letters
    assert (letter.partition, letter.offset, letter.item) == (3, 9, 1)
    again = ExportTraceServiceRequest.FromString(letter.raw)
    (scope,) = again.resource_spans[0].scope_spans
    assert (scope.scope.name, list(scope.spans)) == ("a library", [poisoned])


def test_the_reason_of_a_dead_letter_is_written_for_people() -> None:
    poisoned = span(1, 1)
    poisoned.trace_id = b"short"
    unreadable = event([span(1, 1)])
    unreadable.spans_recorded.otlp_request = b"\xff"
    letters = fold_records([record([poisoned]), at(unreadable.SerializeToString(), offset=1)]).dead_letters
    assert letters[0].reason == "trace_id must have 16 bytes and span_id 8"
    assert "Error" not in letters[1].reason


@pytest.mark.parametrize("raw", [b"", b"\xff", event([span(1, 1)], project="").SerializeToString()])
def test_a_record_that_cannot_be_read_is_set_aside_whole(raw: bytes) -> None:
    unreadable: LogRecord = at(raw)
    projected = fold_records([unreadable, record([span(1, 1)], offset=1)])
    assert [letter.raw for letter in projected.dead_letters] == [raw]
    assert len(projected.spans) == len(projected.blocks) == 1
