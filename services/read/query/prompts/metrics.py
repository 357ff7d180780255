"""PromptMetrics: what generations made with each version of a prompt were like."""

from collections import defaultdict
from collections.abc import Sequence

import asyncpg
from lodestream_proto.v1.prompts_pb2 import (
    PromptMetricsRequest,
    PromptMetricsResponse,
    PromptVersionMetrics,
    ScoreAverage,
)
from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR, SPAN_TYPE_GENERATION

from services.read.query import nouns
from services.read.query.database import Database
from services.read.query.filters import Conditions, to_datetime
from services.read.query.prompts.heads import SQL
from shared.read_model.postgres import load_sql
from shared.read_model.prompt_rules import check_name

_PROMPT_METRICS = load_sql(SQL / "prompt_metrics.sql")
_SCORE_AVERAGES = load_sql(SQL / "score_averages.sql")
_DOLLAR = 10**12


async def prompt_metrics(database: Database, project_id: str, request: PromptMetricsRequest) -> PromptMetricsResponse:
    """Figures of each version that was used. A prompt that nobody used has none, whether there is one or not.

    Raises RefusedError naming the field that can't be used.
    """
    check_name(request.name, "name")
    since = to_datetime("start_from", request.start_from) if request.HasField("start_from") else None
    before = to_datetime("start_before", request.start_before) if request.HasField("start_before") else None
    conditions = Conditions(project_id, request.name, SPAN_TYPE_GENERATION, LEVEL_ERROR)
    if since:
        conditions.add("start_at >= {}", since)
    if before:
        conditions.add("start_at < {}", before)
    rows = await database.searches.fetch(_PROMPT_METRICS.format(conditions=conditions.sql()), *conditions.parameters)
    scores: dict[int, list[ScoreAverage]] = defaultdict(list)
    for score in await database.searches.fetch(_SCORE_AVERAGES, project_id, request.name, since, before):
        average = ScoreAverage(name=score["score_name"], count=score["score_count"], average=score["score_average"])
        scores[score["version"]].append(average)
    return PromptMetricsResponse(versions=[_metrics(row, scores[row["prompt_version"]]) for row in rows])


def _metrics(row: asyncpg.Record, scores: Sequence[ScoreAverage]) -> PromptVersionMetrics:
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
        scores=scores,
        last_used_at=nouns.timestamp(row["last_used_at"]),
    )
