"""GetVerdict: what the log has decided about a command."""

import uuid

from lodestream_proto.v1.prompts_pb2 import GetVerdictRequest, GetVerdictResponse

from services.read.query.database import Database
from services.read.query.prompts.heads import SQL
from shared.read_model.postgres import load_sql
from shared.read_model.prompt_rules import check_name, command_id
from shared.runtime.refusal import NotFoundError

_GET_VERDICT = load_sql(SQL / "get_verdict.sql")


async def get_verdict(database: Database, project_id: str, request: GetVerdictRequest) -> GetVerdictResponse:
    """The first verdict on a command.

    Raises RefusedError: the id is none, or the read model knows no such command.
    """
    identity = uuid.UUID(command_id(request.command_id))
    if request.prompt_name:
        check_name(request.prompt_name, "prompt_name")
    row = await database.look_ups.fetchrow(_GET_VERDICT, project_id, identity, request.prompt_name or None)
    if row is None:
        raise NotFoundError(f"verdict on command {request.command_id}: wait for its position")
    return GetVerdictResponse(
        version=row["version"], revision=row["revision"], refusal=row["refusal"], reason=row["reason"]
    )
