"""GetPromptHeads: all that caches hold of prompts. And the head of a prompt as it was at an instant."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lodestream_proto.v1.prompt_cache_pb2 import GetPromptHeadsRequest, GetPromptHeadsResponse, PromptHead

from services.read.query.database import Database
from shared.read_model.postgres import load_sql
from shared.read_model.prompt_rows import holders, read_heads
from shared.read_model.prompt_rules import check_count, check_name

MAX_PROMPTS = 1_000
"""In one call."""
SQL = Path(__file__).parent / "sql"
_HEAD_AS_OF = load_sql(SQL / "head_as_of.sql")


async def get_prompt_heads(
    database: Database, project_id: str, request: GetPromptHeadsRequest
) -> GetPromptHeadsResponse:
    """A head for each name, known or not.

    Raises RefusedError: too many names, or one that no prompt can have.
    """
    check_count(request.names, "names", most=MAX_PROMPTS)
    for n, name in enumerate(request.names):
        check_name(name, f"names[{n}]")
    heads = await heads_of(database, project_id, request.names)
    return GetPromptHeadsResponse(heads=[heads[name] for name in request.names])


async def heads_of(database: Database, project_id: str, names: Sequence[str]) -> dict[str, PromptHead]:
    """The heads of prompts as they are now, by name."""
    found = await read_heads(database.searches, [(project_id, name) for name in names])
    return {name: head for (_, name), head in found.items()}


async def head_as_of(database: Database, project_id: str, name: str, instant: datetime) -> PromptHead:
    """The head of a prompt after everything the log had got by then, without contents; revision 0 if there was none."""
    row = await database.searches.fetchrow(_HEAD_AS_OF, project_id, name, instant)
    if row is None:
        return PromptHead(name=name)
    return PromptHead(
        name=name,
        revision=row["revision"],
        archived=row["archived"],
        latest_version=row["latest_version"],
        labels=holders(row["labels"] or (), row["versions"] or ()),
    )
