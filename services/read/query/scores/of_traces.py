"""What traces and spans show of their scores, and which traces have scores as asked for."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from lodestream_proto.v1.query_pb2 import ScoreCondition
from lodestream_proto.v1.trace_pb2 import AttachedScore, ScoreColumn, TraceSummary

from services.read.query.database import Database
from services.read.query.filters import Conditions
from services.read.query.scores.filters import add_values, texts
from services.read.query.scores.messages import attached
from shared.read_model.postgres import load_sql
from shared.runtime.refusal import InvalidError

_SQL = Path(__file__).parent.parent / "sql"
_SCORE_COLUMNS = load_sql(_SQL / "score_columns.sql")
_GET_TRACE_SCORES = load_sql(_SQL / "get_trace_scores.sql")
_RANK_TRACES = load_sql(_SQL / "rank_traces_by_score.sql")
_MAX_CONDITIONS = 10
MAX_ATTACHED = 1_000
"""Scores that are shown on a trace and some of its spans."""


def add_score_conditions(conditions: Conditions, wanted: Sequence[ScoreCondition]) -> None:
    """Only traces that meet all of them.

    Raises InvalidError naming the field that can't be used.
    """
    if len(wanted) > _MAX_CONDITIONS:
        raise InvalidError("filter.scores", f"{len(wanted)} conditions; at most {_MAX_CONDITIONS}")
    for n, condition in enumerate(wanted):
        path = f"filter.scores[{n}]"
        if not condition.name:
            raise InvalidError(f"{path}.name", "is missing")
        its = Conditions(*conditions.parameters)
        its.add("name = {}", *texts(f"{path}.name", [condition.name]))
        add_values(its, condition, path)
        conditions.parameters = its.parameters
        conditions.add_raw(
            f"trace_id IN (SELECT scores.trace_id FROM scores"
            f" WHERE project_id = $1 AND trace_id IS NOT NULL AND NOT retracted{its.sql()})"
        )


def ranked_by_score(conditions: Conditions, name: str, *, ascending: bool) -> str:
    """A query for the traces that have this score, once each, at the least value when ascending, else at the greatest.

    Raises InvalidError when no score can have this name.
    """
    if not name:
        raise InvalidError("sort_score", "is missing: the name of a score")
    placeholder = conditions.parameter(*texts("sort_score", [name]))
    return _RANK_TRACES.format(name=placeholder, before="<" if ascending else ">")


async def show_columns(database: Database, project_id: str, summaries: Iterable[TraceSummary]) -> None:
    """Put the scores' columns into these summaries."""
    by_id = {bytes.fromhex(summary.trace_id): summary for summary in summaries}
    if not by_id:
        return
    columns: dict[tuple[bytes, str], ScoreColumn] = {}
    sums: dict[tuple[bytes, str], tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
    for row in await database.searches.fetch(_SCORE_COLUMNS, project_id, list(by_id)):
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
    """The scores of these spans by their ids, those of the trace itself by None; and whether there are more."""
    rows = await database.searches.fetch(
        _GET_TRACE_SCORES, project_id, trace_id, span_ids, of_trace, MAX_ATTACHED + 1
    )  # fmt: skip
    scores: dict[bytes | None, list[AttachedScore]] = {}
    for row in rows[:MAX_ATTACHED]:
        scores.setdefault(row["span_id"], []).append(attached(row))
    return scores, len(rows) > MAX_ATTACHED
