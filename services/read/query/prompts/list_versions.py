"""ListVersions: a prompt's versions, newest first; also of an archived one."""

from lodestream_proto.v1.prompts_pb2 import ListVersionsRequest, ListVersionsResponse, PromptVersion

from services.read.query.database import Database
from services.read.query.paging import Int4, from_token, page_size, to_token
from services.read.query.prompts.heads import SQL, heads_of
from shared.read_model.postgres import load_sql
from shared.read_model.prompt_heads import shown
from shared.read_model.prompt_rules import check_name
from shared.runtime.refusal import NotFoundError

_LIST_VERSIONS = load_sql(SQL / "list_versions.sql")
_PAGE_BYTES = 2 * 1024 * 1024
"""A page of large versions ends early."""


async def list_versions(database: Database, project_id: str, request: ListVersionsRequest) -> ListVersionsResponse:
    """A page of versions.

    Raises RefusedError: the project has no such prompt, or a field can't be used.
    """
    check_name(request.name, "name")
    size = page_size(request.page_size)
    head = (await heads_of(database, project_id, [request.name]))[request.name]
    if not head.revision:
        raise NotFoundError(f"prompt {request.name!r}")
    bound = request.name.encode()
    last = from_token(bound, request.page_token, Int4)
    before = last[0] if last else head.latest_version + 1
    rows = await database.searches.fetch(_LIST_VERSIONS, project_id, request.name, before, size, _PAGE_BYTES)
    more = rows and rows[-1]["version"] > 1
    return ListVersionsResponse(
        versions=[shown(PromptVersion.FromString(row["body"]), head) for row in rows],
        next_page_token=to_token(bound, [rows[-1]["version"]]) if more else "",
    )
