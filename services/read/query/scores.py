"""ScoreService's reads: scores, their history, aggregates and configs."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isnan
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from lodestream_proto.v1 import scores_pb2 as pb
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
    ScoreSource,
    ScoreTarget,
    ScoreValue,
)
from lodestream_proto.v1.scores_pb2_grpc import ScoreServiceServicer
from lodestream_proto.v1.trace_pb2 import AttachedScore

from services.read.query.database import Database
from services.read.query.filters import Conditions, Statement, to_datetime
from services.read.query.messages import timestamp
from services.read.query.paging import PageRequest, fetch_page, snapshot
from services.read.query.read_context import ReadContext
from shared.event_log.topics import SCORES, TRACES
from shared.runtime.refusal import Context, InvalidError, NotFoundError
from shared.storage.named_queries import load_queries
from shared.storage.score_configs import COLUMNS, config_of

_QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
_LIST_SCORES = _QUERIES["list_scores"]
_GET_SCORE_HISTORY = _QUERIES["get_score_history"]
_AGGREGATE_SCORES = _QUERIES["aggregate_scores"]
_LIST_CONFIGS = _QUERIES["list_score_configs"].format(columns=COLUMNS)
_SINCE = (
    """SELECT to_char(date_trunc('{}', chosen.scored_at, 'UTC') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
)
# The keys of a score by grouping, once each: a score of a trace has those of all that its spans used.
_KEYS = {
    pb.SCORE_GROUPING_UNSPECIFIED: "SELECT ''",
    pb.SCORE_GROUPING_DAY: _SINCE.format("day"),
    pb.SCORE_GROUPING_HOUR: _SINCE.format("hour"),
    pb.SCORE_GROUPING_PROMPT_VERSION: _QUERIES["prompt_versions_of_score"],
    pb.SCORE_GROUPING_RELEASE: _QUERIES["release_of_score"],
}
_TOPICS = (SCORES,)
MAX_GROUPS = 10_000
"""Groups of an aggregate."""
_MAX_VALUES = 100
_TEXTS = {
    "session_ids": "session_id",
    "run_ids": "run_id",
    "names": "name",
    "authors": "author",
    "environments": "environment",
}
_IDS = {"trace_ids": ("trace_id", 16), "span_ids": ("span_id", 8)}
OF_A_CATEGORY = f"type = {SCORE_TYPE_CATEGORICAL}"
"""A condition without a parameter, as the predicate of the index scores_by_category has it."""
Row = Mapping[str, Any]


class ScoreService(ScoreServiceServicer):
    """The reads of scores; DefineScoreConfig, which writes, is the gateway's and is not served here.

    What every read may be refused with is said at QueryService.
    """

    def __init__(self, read_context: ReadContext) -> None:
        self._read_context = read_context

    async def ListScoreConfigs(  # noqa: N802 - gRPC's name
        self, request: pb.ListScoreConfigsRequest, context: Context
    ) -> pb.ListScoreConfigsResponse:
        """Return the score configs of the project.

        Args:
            request: Whether to list archived ones.
            context: The call.

        Returns:
            The configs.
        """
        return await self._read_context.run(list_score_configs, request, context, _TOPICS)

    async def ListScores(self, request: pb.ListScoresRequest, context: Context) -> pb.ListScoresResponse:  # noqa: N802
        """Return scores as they are now, the newest first.

        Args:
            request: A filter, `page_size` (50 by default, at most 1,000) and `page_token`.
            context: The call.

        Returns:
            A page of scores, and a token when there are more.

        Raises:
            InvalidError: A field of the filter or the token is wrong.
        """
        return await self._read_context.run(list_scores, request, context, _TOPICS)

    async def GetScoreHistory(  # noqa: N802
        self, request: pb.GetScoreHistoryRequest, context: Context
    ) -> pb.GetScoreHistoryResponse:
        """Return everything that was recorded under one score id, the newest first.

        Args:
            request: The score id.
            context: The call.

        Returns:
            Each score and retraction.

        Raises:
            InvalidError: The id is wrong.
            NotFoundError: The project has no such score.
        """
        return await self._read_context.run(get_score_history, request, context, _TOPICS)

    async def AggregateScores(  # noqa: N802
        self, request: pb.AggregateScoresRequest, context: Context
    ) -> pb.AggregateScoresResponse:
        """Return counts, averages and distributions of scores.

        Args:
            request: A filter, and what to group by beside the name: day, hour, prompt version or release.
            context: The call.

        Returns:
            A group for each name, and each value of what is grouped by.

        Raises:
            InvalidError: A field is wrong, or there are too many groups.
        """
        reads_traces = request.grouping in (pb.SCORE_GROUPING_PROMPT_VERSION, pb.SCORE_GROUPING_RELEASE)
        topics = (TRACES, SCORES) if reads_traces else (SCORES,)
        return await self._read_context.run(aggregate_scores, request, context, topics)


async def list_scores(database: Database, project_id: str, request: pb.ListScoresRequest) -> pb.ListScoresResponse:
    """Return a page of the scores that hold, newest first.

    Raises RefusedError naming the field that can't be used.
    """
    page = PageRequest.of(request, datetime, str, bound=request.filter.SerializeToString(deterministic=True))
    conditions = Conditions(project_id)
    add_score_filter(conditions, request.filter)
    if page.last:
        scored_at, score_id = map(conditions.parameter, page.last)
        conditions.add_raw(f"(scored_at, score_id) < ({scored_at}, {score_id})")
    sql = _LIST_SCORES.format(conditions=conditions.sql(), limit=page.limit(conditions))
    async with snapshot(database) as connection:
        rows, more = await fetch_page(connection, Statement(sql, conditions.parameters), page.size)
    return pb.ListScoresResponse(
        scores=[score_message(row) for row in rows],
        next_page_token=page.token_after(rows[-1]["scored_at"], rows[-1]["score_id"]) if more else "",
    )


async def get_score_history(
    database: Database, project_id: str, request: pb.GetScoreHistoryRequest
) -> pb.GetScoreHistoryResponse:
    """Return all revisions of a score, newest first: the first one holds.

    Raises RefusedError: NOT_FOUND when there is no such score.
    """
    if not request.score_id or "\0" in request.score_id:
        raise InvalidError("score_id", "must be a score's id")
    rows = await database.search_pool.fetch(_GET_SCORE_HISTORY, project_id, request.score_id)
    if not rows:
        raise NotFoundError(f"score {request.score_id!r}")
    return pb.GetScoreHistoryResponse(scores=[score_message(row, superseded=n > 0) for n, row in enumerate(rows)])


async def list_score_configs(
    database: Database, project_id: str, request: pb.ListScoreConfigsRequest
) -> pb.ListScoreConfigsResponse:
    """Return the score configs by name; archived ones only where the request says so."""
    rows = await database.search_pool.fetch(_LIST_CONFIGS, project_id, request.with_archived)
    return pb.ListScoreConfigsResponse(configs=map(config_of, rows))


async def aggregate_scores(
    database: Database, project_id: str, request: pb.AggregateScoresRequest
) -> pb.AggregateScoresResponse:
    """Return counts, averages and distributions of scores by name and key.

    Raises RefusedError naming the field that can't be used, or when there are too many groups.
    """
    keys = _KEYS.get(request.grouping)
    if keys is None:
        raise InvalidError("grouping", f"{request.grouping} is no grouping of this service")
    conditions = Conditions(project_id)
    add_score_filter(conditions, request.filter)
    limit = conditions.parameter(MAX_GROUPS + 1)
    statement = _AGGREGATE_SCORES.format(conditions=conditions.sql(), keys=keys, limit=limit)
    rows = await database.search_pool.fetch(statement, *conditions.parameters)
    if len(rows) > MAX_GROUPS:
        raise InvalidError("filter", f"more than {MAX_GROUPS} groups; ask for fewer names or less time")
    return pb.AggregateScoresResponse(groups=map(_group, rows))


def add_score_filter(conditions: Conditions, score_filter: pb.ScoreFilter) -> None:
    """Add everything that a ScoreFilter asks for, over the columns of scores.

    Raises InvalidError naming the field that can't be used.
    """
    for field, (column, size) in _IDS.items():
        if ids := [_id(f"filter.{field}", text, size) for text in few(f"filter.{field}", getattr(score_filter, field))]:
            conditions.add(f"{column} = ANY({{}}::bytea[])", ids)
    for field, column in _TEXTS.items():
        if values := texts(f"filter.{field}", getattr(score_filter, field)):
            conditions.add(f"{column} = ANY({{}}::text[])", values)
    if sources := few("filter.sources", score_filter.sources):
        if unknown := set(sources) - set(ScoreSource.values()):
            raise InvalidError("filter.sources", f"{min(unknown)} is no source")
        conditions.add("source = ANY({}::smallint[])", list(sources))
    if score_filter.HasField("scored_from"):
        conditions.add("scored_at >= {}", to_datetime("filter.scored_from", score_filter.scored_from))
    if score_filter.HasField("scored_before"):
        conditions.add("scored_at < {}", to_datetime("filter.scored_before", score_filter.scored_before))
    add_values(conditions, score_filter, "filter")


def add_values(conditions: Conditions, bounds: Any, path: str) -> None:
    """Add the bounds and categories of a ScoreFilter or a ScoreCondition, which stands at `path` in the request.

    Raises InvalidError naming the field that can't be used.
    """
    for field, sign in (("min_value", ">="), ("max_value", "<=")):
        if bounds.HasField(field):
            value = getattr(bounds, field)
            if isnan(value):
                raise InvalidError(f"{path}.{field}", "is no number")
            conditions.add(f"number {sign} {{}}", value)
    if categories := texts(f"{path}.categories", bounds.categories):
        conditions.add(f"{OF_A_CATEGORY} AND label = ANY({{}}::text[])", categories)


def texts(field: str, values: Sequence[str]) -> list[str]:
    """Return texts, checked to be few and such as the database can look for.

    Raises InvalidError naming the field.
    """
    if any("\0" in value for value in values):
        raise InvalidError(field, "a NUL character can't be looked for")
    return list(few(field, values))


def few(field: str, values: Sequence[Any]) -> Sequence[Any]:
    """Return values, checked to be as many as one filter may have.

    Raises InvalidError naming the field.
    """
    if len(values) > _MAX_VALUES:
        raise InvalidError(field, f"{len(values)} values; at most {_MAX_VALUES}")
    return values


def score_message(row: Row, *, superseded: bool = False) -> pb.Score:
    """Return the message of a row of list_scores or get_score_history."""
    return pb.Score(
        score_id=row["score_id"],
        target=ScoreTarget(
            trace_id=row["trace_id"] or b"",
            span_id=row["span_id"] or b"",
            session_id=row["session_id"] or "",
            run_id=row["run_id"] or "",
        ),
        name=row["name"] or "",
        value=None if row["retracted"] else score_value(row),
        comment=row["comment"] or "",
        config_id=row["config_id"] or "",
        source=row["source"],
        author=row["author"] or "",
        evaluator_version=row["evaluator_version"] or "",
        environment=row["environment"] or "",
        metadata_json=row["metadata"] or "",
        scored_at=timestamp(row["scored_at"]),
        superseded=superseded,
        retracted=row["retracted"],
        retraction_reason=row["retraction_reason"] or "",
    )


def attached_score(row: Row) -> AttachedScore:
    """Return the message of a row of get_trace_scores."""
    return AttachedScore(
        score_id=row["score_id"],
        name=row["name"],
        value=score_value(row),
        number=row["number"],
        comment=row["comment"],
        source=row["source"],
        author=row["author"],
        evaluator_version=row["evaluator_version"],
        scored_at=timestamp(row["scored_at"]),
    )


def score_value(row: Row) -> ScoreValue:
    """Return the value of a score as it was given."""
    match row["type"]:
        case _ if row["type"] == SCORE_TYPE_NUMERIC:
            return ScoreValue(numeric=row["number"])
        case _ if row["type"] == SCORE_TYPE_BOOLEAN:
            return ScoreValue(boolean=row["number"] == 1)
        case _ if row["type"] == SCORE_TYPE_CATEGORICAL:
            return ScoreValue(categorical=row["label"])
        case _ if row["type"] == SCORE_TYPE_TEXT:
            return ScoreValue(text=row["label"])
    return ScoreValue()


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


def _id(field: str, text: str, size: int) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != size or len(text) != 2 * size:
        raise InvalidError(field, f"{text[:40]!r} is not {2 * size} hex digits")
    return raw
