"""LabelHistory: every decided change of a prompt's labels, newest first; also of an archived prompt."""

import asyncpg
from lodestream_proto.v1.prompts_pb2 import LabelHistoryRequest, LabelHistoryResponse, LabelMove

from services.read.query import nouns
from services.read.query.database import Database
from services.read.query.filters import Conditions
from services.read.query.paging import from_token, page_size, to_token
from services.read.query.prompts.heads import SQL
from shared.read_model.postgres import load_sql
from shared.read_model.prompt_rules import check_label, check_name
from shared.runtime.refusal import NotFoundError

_LABEL_HISTORY = load_sql(SQL / "label_history.sql")
_EXISTS = "SELECT 1 FROM prompts WHERE project_id = $1 AND name = $2"


async def label_history(database: Database, project_id: str, request: LabelHistoryRequest) -> LabelHistoryResponse:
    """A page of moves.

    Raises RefusedError: the project has no such prompt, or a field can't be used.
    """
    check_name(request.name, "name")
    size = page_size(request.page_size)
    bound = LabelHistoryRequest(name=request.name, label=request.label).SerializeToString(deterministic=True)
    conditions = Conditions(project_id, request.name)
    if request.label:
        check_label(request.label, "label")
        conditions.add("label = {}", request.label)
    if last := from_token(bound, request.page_token, int, str):
        revision, label = conditions.parameter(last[0]), conditions.parameter(last[1])
        conditions.add_raw(f"revision <= {revision} AND (revision < {revision} OR label > {label})")
    limit = conditions.parameter(size + 1)
    statement = _LABEL_HISTORY.format(conditions=conditions.sql(), limit=limit)
    rows = await database.searches.fetch(statement, *conditions.parameters)
    if not rows and not await database.searches.fetchval(_EXISTS, project_id, request.name):
        raise NotFoundError(f"prompt {request.name!r}")
    token = to_token(bound, [rows[size - 1]["revision"], rows[size - 1]["label"]]) if len(rows) > size else ""
    return LabelHistoryResponse(moves=[_move(row) for row in rows[:size]], next_page_token=token)


def _move(row: asyncpg.Record) -> LabelMove:
    return LabelMove(
        label=row["label"],
        from_version=row["from_version"],
        to_version=row["to_version"],
        author=row["author"],
        moved_at=nouns.timestamp(row["moved_at"]),
        revision=row["revision"],
    )
