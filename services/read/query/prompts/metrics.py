"""PromptMetrics: what generations made with each version of a prompt were like."""

import asyncpg
from lodestream_proto.v1.prompts_pb2 import PromptMetricsRequest, PromptMetricsResponse, PromptVersionMetrics
from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR, SPAN_TYPE_GENERATION

from services.read.query import nouns
from services.read.query.filters import Conditions, to_datetime
from services.read.query.prompts.heads import SQL
from shared.read_model.postgres import load_sql
from shared.read_model.prompt_rules import check_name

_PROMPT_METRICS = load_sql(SQL / "prompt_metrics.sql")
_DOLLAR = 10**12


async def prompt_metrics(pool: asyncpg.Pool, project_id: str, request: PromptMetricsRequest) -> PromptMetricsResponse:
    """Figures of each version that was used. A prompt that nobody used has none, whether there is one or not.

    Raises RefusedError naming the field that can't be used.
    """
    check_name(request.name, "name")
    conditions = Conditions(project_id, request.name, SPAN_TYPE_GENERATION, LEVEL_ERROR)
    if request.HasField("start_from"):
        conditions.add("start_at >= {}", to_datetime("start_from", request.start_from))
    if request.HasField("start_before"):
        conditions.add("start_at < {}", to_datetime("start_before", request.start_before))
    rows = await pool.fetch(_PROMPT_METRICS.format(conditions=conditions.sql()), *conditions.parameters)
    return PromptMetricsResponse(versions=[_metrics(row) for row in rows])


def _metrics(row: asyncpg.Record) -> PromptVersionMetrics:
    return PromptVersionMetrics(
        version=row["prompt_version"],
        generations=row["generations"],
        errors=row["errors"],
        latency_p50_us=row["latency_p50_us"] or 0,
        latency_p95_us=row["latency_p95_us"] or 0,
        input_tokens_avg=row["input_tokens_avg"],
        output_tokens_avg=row["output_tokens_avg"],
        cost_usd_total=float(row["cost_picos"]) / _DOLLAR,
        cost_usd_avg=float(row["cost_picos"]) / row["generations"] / _DOLLAR,
        first_used_at=nouns.timestamp(row["first_used_at"]),
        last_used_at=nouns.timestamp(row["last_used_at"]),
    )
