"""Values that no program means to send, on a real Postgres: they cost no row, and nothing beside them."""

import json

import pytest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from shared.event_log.codec import LogRecord
from tests.support import hostile
from tests.support.projecting import projecting
from tests.support.records import record, span
from tests.support.scores import config, projecting_scores, score, score_event, score_record

KEYS = (
    "lodestream.observation.usage_details", "lodestream.observation.cost_details", "lodestream.trace.tags",
    "lodestream.observation.completion_start_time", "lodestream.observation.prompt.version", "user.id",
    "gen_ai.input.messages", "llm.token_count.prompt",
)  # fmt: skip
"""One for each way in which a value becomes a column."""
MOST = 2**63 - 1


async def test_every_value_that_the_gateway_accepts_becomes_a_row(database) -> None:
    odd = []
    for number, (key, value) in enumerate(((key, value) for key in KEYS for value in hostile.VALUES), start=10):
        told = span(3, number, attributes={"lodestream.observation.model.name": "gpt-4o"})
        told.attributes.append(KeyValue(key=key, value=value))
        odd.append(told)
    spans = [span(1, 1), *odd, span(2, 2)]
    checked = await hostile.accepted(hostile.request_of(spans))
    assert checked.kept == len(spans)
    async with projecting(database) as projection:
        await projection.fold(*hostile.recorded(checked.records))
        assert await projection.pool.fetch("SELECT item, reason FROM dead_letters LIMIT 3") == []
        assert await projection.count("spans") == len(spans)
        assert await projection.pool.fetchval("SELECT sum(span_count) FROM traces") == len(spans)


@pytest.mark.parametrize("in_batches", [1, 3], ids=["at once", "in batches"])
async def test_the_sums_of_a_trace_end_at_the_largest_number(database, in_batches: int) -> None:
    """No span is refused because of the others, in whatever order and grouping they come."""
    cost = {"lodestream.observation.cost_details": json.dumps({"total": 999_999.5})}
    records = [record([span(1, 4 * n + i + 1, attributes=cost) for i in range(4)], offset=n) for n in range(3)]
    async with projecting(database) as projection:
        for n in range(in_batches):
            await projection.fold(*records[n::in_batches] if in_batches == 1 else [records[n]])
        rows = await projection.pool.fetch("SELECT span_count, cost_picos FROM traces")
        assert [tuple(row) for row in rows] == [(12, MOST)]
        assert await projection.count("dead_letters") == 0


async def test_what_reaches_the_log_of_scores_past_the_gateway_costs_only_itself(database) -> None:
    told = [*hostile.mutants(score("s", "good")), *hostile.mutants(config("c", min_value=0, max_value=1))]
    records: list[LogRecord] = []
    for number, (_, mutant) in enumerate(told, start=1):
        records.append(score_record(score_event(mutant, number=number), offset=len(records)))
        if number % 100 == 0:
            good = score_event(score(f"good {number}"), number=10**6 + number)
            records.append(score_record(good, offset=len(records)))
    async with projecting_scores(database) as projection:
        await projection.fold(*records)
        good = await projection.pool.fetchval("SELECT count(*) FROM scores WHERE score_id LIKE 'good %'")
        assert good == len(told) // 100
        reasons = await projection.pool.fetch("SELECT reason FROM dead_letters WHERE reason LIKE '%Error: %'")
        assert [row["reason"] for row in reasons] == []
