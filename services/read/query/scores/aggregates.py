"""AggregateScores: counts, averages and distributions, by name and one thing more."""

import asyncpg
import orjson
from lodestream_proto.v1 import scores_pb2 as pb

from services.read.query.database import Database
from services.read.query.filters import Conditions
from services.read.query.scores.filters import add_score_filter
from services.read.query.traces import SQL
from shared.read_model.postgres import load_sql
from shared.runtime.refusal import InvalidError

MAX_GROUPS = 10_000
_AGGREGATE = load_sql(SQL / "aggregate_scores.sql")
_NOTHING = "SELECT ''"
_SINCE = (
    """SELECT to_char(date_trunc('{}', chosen.scored_at, 'UTC') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
)
# What a score belongs to, once each: a score of a trace to all that its spans used.
_KEYS = {
    pb.SCORE_GROUPING_UNSPECIFIED: _NOTHING,
    pb.SCORE_GROUPING_DAY: _SINCE.format("day"),
    pb.SCORE_GROUPING_HOUR: _SINCE.format("hour"),
    pb.SCORE_GROUPING_PROMPT_VERSION: load_sql(SQL / "prompt_versions_of_score.sql"),
    pb.SCORE_GROUPING_RELEASE: load_sql(SQL / "release_of_score.sql"),
}


async def aggregate_scores(
    database: Database, project_id: str, request: pb.AggregateScoresRequest
) -> pb.AggregateScoresResponse:
    """The groups, by name and key.

    Raises RefusedError naming the field that can't be used, or when there are too many groups.
    """
    keys = _KEYS.get(request.grouping)
    if keys is None:
        raise InvalidError("grouping", f"{request.grouping} is no grouping of this service")
    conditions = Conditions(project_id)
    add_score_filter(conditions, request.filter)
    limit = conditions.parameter(MAX_GROUPS + 1)
    statement = _AGGREGATE.format(conditions=conditions.sql(), keys=keys, limit=limit)
    rows = await database.searches.fetch(statement, *conditions.parameters)
    if len(rows) > MAX_GROUPS:
        raise InvalidError("filter", f"more than {MAX_GROUPS} groups; ask for fewer names or less time")
    return pb.AggregateScoresResponse(groups=map(_group, rows))


def _group(row: asyncpg.Record) -> pb.ScoreGroup:
    return pb.ScoreGroup(
        name=row["name"],
        key=row["key"],
        count=row["count"],
        average=row["average"],
        minimum=row["minimum"],
        maximum=row["maximum"],
        median=row["median"],
        categories=orjson.loads(row["categories"] or "{}"),
    )
