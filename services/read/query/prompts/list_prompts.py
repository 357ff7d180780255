"""ListPrompts: a page of prompts, by name."""

import asyncpg
from lodestream_proto.v1.prompts_pb2 import ListPromptsRequest, ListPromptsResponse, PromptSummary

from services.read.query import nouns
from services.read.query.database import Database
from services.read.query.filters import Conditions
from services.read.query.paging import from_token, page_size, to_token
from services.read.query.prompts.heads import SQL
from shared.read_model.postgres import load_sql
from shared.read_model.prompt_rows import holders
from shared.runtime.refusal import InvalidError

_LIST_PROMPTS = load_sql(SQL / "list_prompts.sql")
_HAS_LABEL = """EXISTS (
    SELECT FROM prompt_labels
    WHERE project_id = $1 AND name = prompts.name AND label = {} AND version > 0
)"""


async def list_prompts(database: Database, project_id: str, request: ListPromptsRequest) -> ListPromptsResponse:
    """A page of summaries.

    Raises RefusedError naming the field that can't be used.
    """
    size = page_size(request.page_size)
    bound = ListPromptsRequest(
        label=request.label, tag=request.tag, name_contains=request.name_contains, with_archived=request.with_archived
    ).SerializeToString(deterministic=True)
    conditions = Conditions(project_id)
    for field, condition in {
        "label": _HAS_LABEL,
        "tag": "{} = ANY(newest.tags)",
        "name_contains": "strpos(lower(prompts.name), lower({})) > 0",
    }.items():
        if value := getattr(request, field):
            if "\0" in value:
                raise InvalidError(field, "a NUL character can't be looked for")
            conditions.add(condition, value)
    if not request.with_archived:
        conditions.add_raw("NOT prompts.archived")
    if last := from_token(bound, request.page_token, str):
        conditions.add("prompts.name > {}", last[0])
    limit = conditions.parameter(size + 1)
    statement = _LIST_PROMPTS.format(conditions=conditions.sql(), limit=limit)
    rows = await database.searches.fetch(statement, *conditions.parameters)
    token = to_token(bound, [rows[size - 1]["name"]]) if len(rows) > size else ""
    return ListPromptsResponse(prompts=[_summary(row) for row in rows[:size]], next_page_token=token)


def _summary(row: asyncpg.Record) -> PromptSummary:
    return PromptSummary(
        name=row["name"],
        is_chat=row["is_chat"],
        latest_version=row["latest_version"],
        labels=holders(row["labels"] or (), row["versions"] or ()),
        tags=row["tags"],
        revision=row["revision"],
        archived=row["archived"],
        created_at=nouns.timestamp(row["created_at"]),
        updated_at=nouns.timestamp(row["updated_at"]),
    )
