"""What the gateway accepts of a span, a row can hold and a message can show; the spans beside it stay as they are."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lodestream_proto.v1.event_pb2 import Producer
from lodestream_proto.v1.trace_pb2 import SpanContent
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services.projections.traces.batch import FoldedBatch, block_of, fold_records, sources_in
from services.projections.traces.copy_format import pack, pack_block
from services.projections.traces.rows import SpanRef, SpanRow
from services.read.query.contents import span_content
from shared.spans.dialects.values import MAX_KINDS, MAX_NAME, MAX_PICOS, MAX_TOKENS
from tests.support import hostile
from tests.support.records import span

GOOD = [
    span(1, 1, attributes={"user.id": "ada", "gen_ai.input.messages": '[{"role":"user"}]'}),
    span(2, 2, parent=1, attributes={"gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 7}),
]


def fold_accepted(
    spans: Sequence[Span],
    resource: Sequence[KeyValue] = (),
    scope: InstrumentationScope | None = None,
    producer: Producer | None = None,
) -> FoldedBatch:
    """Through the gateway's validation, the fold, the encoding for COPY and the answer with content."""
    request = hostile.request_of(spans, resource=resource, scope=scope)
    checked = asyncio.run(hostile.accepted(request, producer))
    assert checked.kept == len(spans)
    records = hostile.recorded(checked.records)
    projected = fold_records(records)
    assert not projected.dead_letters, projected.dead_letters[0].reason
    pack(projected.spans)
    for record, block in zip(records, projected.blocks, strict=True):
        pack_block(block)
        assert "\0" not in block.sdk_name + block.sdk_version
        for source in sources_in(block_of(record)):
            shown = span_content([source])
            assert SpanContent.FromString(shown.SerializeToString()) == shown
            for field in ("metadata_json", "attributes_json", "model_parameters_json", "resource_json"):
                orjson.loads(getattr(shown, field))
    for row in projected.spans:
        assert_storable(row)
    return projected


def assert_storable(row: SpanRow) -> None:
    """What COPY's encoding does not see and Postgres refuses, and the bounds that are promised."""
    texts = [value for name in SpanRow.__slots__ if isinstance(value := getattr(row, name), str)]
    kinds = [*(row.usage or {}), *(row.cost or {})]
    assert not [text for text in (*texts, *(row.tags or ()), *kinds) if "\0" in text]
    assert max(map(len, (*texts, *(row.tags or ()), *kinds))) <= MAX_NAME
    assert len(row.usage or ()) <= MAX_KINDS
    assert len(row.cost or ()) <= MAX_KINDS
    assert all(0 <= tokens <= MAX_TOKENS for tokens in (*(row.usage or {}).values(), row.total_tokens))
    assert all(0 <= picos <= MAX_PICOS for picos in (*(row.cost or {}).values(), row.cost_picos))


def without_place(row: SpanRow) -> SpanRow:
    (part,) = row.parts
    return replace(row, parts=(SpanRef(part.received_at_us, 0, 0, 0),))


def rows_of_good(projected: FoldedBatch) -> list[SpanRow]:
    names = {(one.trace_id, one.span_id) for one in GOOD}
    return [without_place(row) for row in projected.spans if (row.trace_id, row.span_id) in names]


UNDISTURBED = rows_of_good(fold_accepted(GOOD))


@pytest.mark.parametrize("key", hostile.KEYS, ids=lambda key: repr(key[:60]))
def test_every_value_under_every_key(key: str) -> None:
    attributes = [KeyValue(key=key, value=value) for value in hostile.VALUES]
    # With a model that has a price, so that an absurd usage has a cost.
    priced = KeyValue(key="lodestream.observation.model.name", value=AnyValue(string_value="gpt-4o"))
    odd = []
    for number, attribute in enumerate(attributes, start=100):
        told = span(3, number)
        told.attributes.extend([priced, attribute] if key != priced.key else [attribute])
        odd.append(told)
    assert rows_of_good(fold_accepted([GOOD[0], *odd, GOOD[1]])) == UNDISTURBED
    for attribute in attributes:
        fold_accepted([span(3, 100)], resource=[attribute])


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    odd=st.lists(hostile.SPANS, min_size=1, max_size=3),
    resource=hostile.ATTRIBUTES,
    scope=hostile.SCOPES,
    producer=hostile.PRODUCERS,
)
def test_any_spans(odd: list[Span], resource: list[KeyValue], scope: InstrumentationScope, producer: Producer) -> None:
    fold_accepted(odd, resource, scope, producer)
    assert rows_of_good(fold_accepted([GOOD[0], *odd, GOOD[1]])) == UNDISTURBED
