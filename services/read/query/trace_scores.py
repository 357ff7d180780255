"""Scores as traces and spans show them, and traces by the conditions that their scores meet."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from lodestream_proto.v1.query_pb2 import ScoreCondition
from lodestream_proto.v1.trace_pb2 import AttachedScore, ScoreColumn, TraceSummary

from services.read.query.database import Database
from services.read.query.filters import Conditions
from services.read.query.scores import add_values, attached_score, texts
from shared.runtime.refusal import InvalidError
from shared.storage.named_queries import load_queries

_QUERIES = load_queries(Path(__file__).with_name("scores.sql"))
_SCORE_COLUMNS = _QUERIES["score_columns"]
_GET_TRACE_SCORES = _QUERIES["get_trace_scores"]
_RANK_TRACES = _QUERIES["rank_traces_by_score"]
_MAX_CONDITIONS = 10
MAX_ATTACHED = 1_000
"""How many scores are shown on a trace and some of its spans."""


def add_score_conditions(conditions: Conditions, score_conditions: Sequence[ScoreCondition]) -> None:
    """Leave only traces that meet all of some conditions on their scores.

    Raises InvalidError naming the field that can't be used.
    """
    if len(score_conditions) > _MAX_CONDITIONS:
        raise InvalidError("filter.scores", f"{len(score_conditions)} conditions; at most {_MAX_CONDITIONS}")
    for n, condition in enumerate(score_conditions):
        path = f"filter.scores[{n}]"
        if not condition.name:
            raise InvalidError(f"{path}.name", "is missing")
        score = Conditions(*conditions.parameters)
        score.add("name = {}", *texts(f"{path}.name", [condition.name]))
        add_values(score, condition, path)
        conditions.parameters = score.parameters
        conditions.add_raw(
            f"trace_id IN (SELECT scores.trace_id FROM scores"
            f" WHERE project_id = $1 AND trace_id IS NOT NULL AND NOT retracted{score.sql()})"
        )


def ranked_by_score(conditions: Conditions, name: str, *, ascending: bool) -> str:
    """Return a query for the traces that have a score, once each: at its least value if ascending, else its greatest.

    Raises InvalidError when no score can have this name.
    """
    if not name:
        raise InvalidError("sort_score", "is missing: the name of a score")
    placeholder = conditions.parameter(*texts("sort_score", [name]))
    return _RANK_TRACES.format(name=placeholder, before="<" if ascending else ">")


async def show_columns(database: Database, project_id: str, summaries: Iterable[TraceSummary]) -> None:
    """Put what their scores come to into some summaries, a column for each name."""
    by_id = {bytes.fromhex(summary.trace_id): summary for summary in summaries}
    if not by_id:
        return
    columns: dict[tuple[bytes, str], ScoreColumn] = {}
    sums: dict[tuple[bytes, str], tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
    for row in await database.search_pool.fetch(_SCORE_COLUMNS, project_id, list(by_id)):
        key = row["trace_id"], row["name"]
        column = columns.setdefault(key, ScoreColumn(name=row["name"]))
        column.count += row["given"]
        if row["label"] is not None:
            column.categories[row["label"]] += row["given"]
        if row["numbers"]:
            total, numbers = sums[key]
            sums[key] = total + row["total"], numbers + row["numbers"]
    for key, (total, numbers) in sums.items():
        columns[key].average = float(total / numbers)
    for (trace_id, _), column in columns.items():
        by_id[trace_id].scores.append(column)


async def attached_scores(
    database: Database, project_id: str, trace_id: bytes, span_ids: Sequence[bytes], *, of_trace: bool
) -> tuple[dict[bytes | None, list[AttachedScore]], bool]:
    """Return the scores of some spans by their ids, those of the trace itself by None; and whether there are more."""
    rows = await database.search_pool.fetch(
        _GET_TRACE_SCORES, project_id, trace_id, span_ids, of_trace, MAX_ATTACHED + 1
    )  # fmt: skip
    scores: dict[bytes | None, list[AttachedScore]] = {}
    for row in rows[:MAX_ATTACHED]:
        scores.setdefault(row["span_id"], []).append(attached_score(row))
    return scores, len(rows) > MAX_ATTACHED
