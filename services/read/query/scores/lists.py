"""ListScores, GetScoreHistory, ListScoreConfigs."""

from datetime import datetime

from lodestream_proto.v1 import scores_pb2 as pb

from services.read.query.database import Database
from services.read.query.filters import Conditions
from services.read.query.paging import fetch_page, from_token, page_size, snapshot, to_token
from services.read.query.scores import messages
from services.read.query.scores.filters import add_score_filter
from services.read.query.traces import SQL
from shared.read_model.postgres import load_sql
from shared.read_model.score_configs import COLUMNS, config_of
from shared.runtime.refusal import InvalidError, NotFoundError

_LIST_SCORES = load_sql(SQL / "list_scores.sql")
_GET_SCORE_HISTORY = load_sql(SQL / "get_score_history.sql")
_LIST_CONFIGS = f"""
SELECT {COLUMNS} FROM score_configs WHERE project_id = $1 AND (NOT archived OR $2) ORDER BY name, config_id
"""


async def list_scores(database: Database, project_id: str, request: pb.ListScoresRequest) -> pb.ListScoresResponse:
    """A page of what holds, newest first.

    Raises RefusedError naming the field that can't be used.
    """
    size, bound = page_size(request.page_size), request.filter.SerializeToString(deterministic=True)
    conditions = Conditions(project_id)
    add_score_filter(conditions, request.filter)
    if last := from_token(bound, request.page_token, datetime, str):
        scored_at, score_id = conditions.parameter(last[0]), conditions.parameter(last[1])
        conditions.add_raw(f"(scored_at, score_id) < ({scored_at}, {score_id})")
    limit = conditions.parameter(size + 1)
    statement = _LIST_SCORES.format(conditions=conditions.sql(), limit=limit)
    async with snapshot(database) as connection:
        rows, more = await fetch_page(connection, statement, conditions.parameters, size)
    token = ""
    if more:
        token = to_token(bound, [rows[-1]["scored_at"], rows[-1]["score_id"]])
    return pb.ListScoresResponse(scores=[messages.score(row) for row in rows], next_page_token=token)


async def get_score_history(
    database: Database, project_id: str, request: pb.GetScoreHistoryRequest
) -> pb.GetScoreHistoryResponse:
    """All that was said under one id, newest first: the first holds.

    Raises RefusedError: NOT_FOUND when nothing was.
    """
    if not request.score_id or "\0" in request.score_id:
        raise InvalidError("score_id", "must be a score's id")
    rows = await database.searches.fetch(_GET_SCORE_HISTORY, project_id, request.score_id)
    if not rows:
        raise NotFoundError(f"score {request.score_id!r}")
    return pb.GetScoreHistoryResponse(scores=[messages.score(row, superseded=n > 0) for n, row in enumerate(rows)])


async def list_score_configs(
    database: Database, project_id: str, request: pb.ListScoreConfigsRequest
) -> pb.ListScoreConfigsResponse:
    """The configs by name; archived ones only when asked for."""
    rows = await database.searches.fetch(_LIST_CONFIGS, project_id, request.with_archived)
    return pb.ListScoreConfigsResponse(configs=map(config_of, rows))
