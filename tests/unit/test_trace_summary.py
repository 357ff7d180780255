"""A trace's summary has a bounded size, and is the same however its spans come together and change."""

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from services.projections.traces import summary
from services.projections.traces.batch import fold_records
from services.projections.traces.fold import fold, read_revision
from services.projections.traces.rows import SpanRef, SpanRow
from services.projections.traces.summary import add, change, coarse, grain_bits, summarise, union
from shared.spans.blocks import ReceivedSpan, SpanOrigin
from tests.support.records import NOON, record, span

RECEIVED_US = int(NOON.timestamp()) * 1_000_000


def rows_of(count: int, choose: random.Random, *, trace: int = 1) -> list[SpanRow]:
    kinds = ["LLM", "TOOL", "RETRIEVER", "CHAIN"]
    spans = [
        span(
            trace,
            n,
            parent=None if choose.random() < 0.1 else 1,
            start_ms=(start := choose.randrange(100_000)),
            end_ms=None if choose.random() < 0.1 else start + choose.randrange(50),
            attributes={"openinference.span.kind": choose.choice(kinds), "tag.tags": choose.choice("xyz")},
        )
        for n in range(1, count + 1)
    ]
    return fold_records([record(spans)]).spans


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([3, 40, 200]), st.integers(1, 6), st.integers(1, 100))
def test_parts_of_a_trace_add_up_to_the_whole_in_any_order(
    choose: random.Random, count: int, parts: int, exact: int
) -> None:
    with small_bounds(exact):
        rows = rows_of(count, choose)
        (whole,) = summarise(rows)
        choose.shuffle(rows)
        cuts = sorted(choose.randrange(count + 1) for _ in range(parts))
        groups = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, count], strict=True) if a < b]
        summaries = [each for group in groups for each in summarise(group)]
        while len(summaries) > 1:
            one, more = (summaries.pop(choose.randrange(len(summaries))) for _ in range(2))
            summaries.append(add(one, more))
        assert summaries == [whole]


class small_bounds:  # noqa: N801 - a context manager
    """Bounds that a small trace reaches."""

    def __init__(self, exact: int) -> None:
        self._new: dict[str, Any] = {"EXACT_SPANS": exact, "_GRAINS_BITS": 5}

    def __enter__(self) -> None:
        self._old = {name: getattr(summary, name) for name in self._new}
        for name, value in self._new.items():
            setattr(summary, name, value)

    def __exit__(self, *_: object) -> None:
        for name, value in self._old.items():
            setattr(summary, name, value)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**4)), max_size=30),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_a_coarser_grain_covers_a_finer_one_and_may_be_reached_by_way_of_it(
    spans: list[tuple[int, int]], one: int, more: int
) -> None:
    busy = union((start, start + length) for start, length in spans)
    fine, rough = coarse(busy, min(one, more)), coarse(busy, max(one, more))
    assert coarse(fine, max(one, more)) == rough
    assert union([*rough, *busy]) == rough
    for start, end in rough:
        assert any(start <= a < start + 2 ** max(one, more) for a, _ in busy)
        assert any(end - 2 ** max(one, more) < b <= end for _, b in busy)


def test_a_huge_trace_has_a_summary_of_bounded_size() -> None:
    rows = rows_of(3000, random.Random(4))
    for n, row in enumerate(rows):
        row.start_at_us, row.end_at_us, row.tags = RECEIVED_US + 10 * n, RECEIVED_US + 10 * n + 5, [f"tag-{n:05}"]
    (whole,) = summarise(rows)
    assert len(whole.child_busy) <= 1_025
    assert whole.tags == [f"tag-{n:05}" for n in range(100)]
    assert grain_bits(3000, whole.start_at_us, whole.end_at_us) == 4
    (few,) = summarise(rows[:1000])
    assert sum(map(len, (few.child_busy,))) == sum(not row.is_root for row in rows[:1000]), "exact"


TELLING = st.builds(
    span,
    st.just(1),
    st.integers(1, 3),
    name=st.sampled_from(["", "a", "b"]),
    parent=st.sampled_from([None, 2]),
    start_ms=st.integers(0, 2),
    end_ms=st.none() | st.integers(3, 6),
    attributes=st.dictionaries(
        st.sampled_from(["user.id", "openinference.span.kind", "tag.tags", "llm.token_count.prompt", "level"]),
        st.sampled_from(["LLM", "TOOL", "7"]),
    ),
)


@settings(deadline=None)
@given(st.lists(TELLING, min_size=2, max_size=8))
def test_what_a_span_gains_is_what_the_summary_gains(sent: list[Any]) -> None:
    origin = SpanOrigin(Resource(), InstrumentationScope(), {}, "", "")
    versions = [
        read_revision(SpanRef(RECEIVED_US + n, 0, n, 0), ReceivedSpan(each, origin, 0)) for n, each in enumerate(sent)
    ]
    told: dict[bytes, list[Any]] = {}
    rows: dict[bytes, SpanRow] = {}
    total = None
    for each in versions:
        told.setdefault(each.span_id, []).append(each)
        now = fold(each.key("p"), told[each.span_id])
        was = rows.get(each.span_id)
        rows[each.span_id] = now
        if was is None:
            (gained,) = summarise([now])
            total = add(total, gained) if total else gained
        elif total is not None:
            changed = change(was, now)
            (total,) = summarise(rows.values()) if changed is None else (add(total, changed),)
        assert [total] == summarise(rows.values())


def one_row(**fields: Any) -> SpanRow:
    (row,) = fold_records([record([span(1, 1, **fields)])]).spans
    return row


def test_a_span_that_is_received_with_the_same_times_again_loses_nothing() -> None:
    old, new = one_row(end_ms=None), one_row(end_ms=80)
    gained = change(old, new)
    assert gained is not None
    assert (gained.span_count, gained.end_at_us) == (0, new.end_at_us)


def test_a_busy_span_that_becomes_a_root_loses_what_it_was_busy_as_a_child() -> None:
    child = one_row(end_ms=80, parent=2)
    root = replace(child, parent_span_id=None, is_root=True)
    assert change(child, root) is None
    assert change(root, replace(root, name="another")) is not None, "a root that stays one"
    assert change(replace(child, end_at_us=None), replace(root, end_at_us=None)) is not None, "it was not busy yet"
