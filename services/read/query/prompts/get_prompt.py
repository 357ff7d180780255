"""GetPrompt and GetPrompts: a version by its number or label, now or as of an instant."""

from collections.abc import Sequence

from lodestream_proto.v1.prompt_cache_pb2 import PromptHead
from lodestream_proto.v1.prompts_pb2 import (
    GetPromptRequest,
    GetPromptResponse,
    GetPromptsRequest,
    GetPromptsResponse,
    PromptOutcome,
    PromptSelector,
    PromptVersion,
)

from services.read.query.database import Database
from services.read.query.filters import to_datetime
from services.read.query.prompts.heads import MAX_PROMPTS, SQL, head_as_of, heads_of
from shared.read_model.postgres import load_sql
from shared.read_model.prompt_heads import PRODUCTION, content_in, shown, version_meant
from shared.read_model.prompt_rules import check_count, check_selector
from shared.runtime.refusal import InvalidError, NotFoundError

_GET_VERSIONS = load_sql(SQL / "get_versions.sql")
_MAX_ANSWER_BYTES = 32 * 1024 * 1024


async def get_prompt(database: Database, project_id: str, request: GetPromptRequest) -> GetPromptResponse:
    """One version.

    Raises RefusedError: the selector can't be, or the project has (or had then) nothing it selects.
    """
    selector = request.prompt
    check_selector(selector, "prompt")
    if request.HasField("as_of"):
        instant = to_datetime("as_of", request.as_of)
        head = await head_as_of(database, project_id, selector.name, instant)
    else:
        head = (await heads_of(database, project_id, [selector.name]))[selector.name]
    (found,) = await _contents(database, project_id, [(head, version_meant(head, selector))])
    if found is None:
        raise NotFoundError(_described(selector))
    return GetPromptResponse(prompt=found)


async def get_prompts(database: Database, project_id: str, request: GetPromptsRequest) -> GetPromptsResponse:
    """An outcome for each selector.

    Raises RefusedError: a selector can't be, or they are too many or too large together.
    """
    check_count(request.prompts, "prompts", most=MAX_PROMPTS)
    for n, selector in enumerate(request.prompts):
        check_selector(selector, f"prompts[{n}]")
    heads = await heads_of(database, project_id, [selector.name for selector in request.prompts])
    meant = [(heads[selector.name], version_meant(heads[selector.name], selector)) for selector in request.prompts]
    return GetPromptsResponse(
        outcomes=[
            PromptOutcome(prompt=selector, found=found, revision=head.revision)
            for selector, (head, _), found in zip(
                request.prompts, meant, await _contents(database, project_id, meant), strict=True
            )
        ]
    )


async def _contents(
    database: Database, project_id: str, meant: Sequence[tuple[PromptHead, int | None]]
) -> list[PromptVersion | None]:
    """The versions meant, as their heads show them; those that the heads don't carry are read."""
    known = {(head.name, number): content_in(head, number) for head, number in meant if number}
    missing = [place for place, version in known.items() if version is None]
    if missing:
        names, numbers = (list(column) for column in zip(*missing, strict=True))
        size = 0
        async with database.searches.acquire() as connection, connection.transaction():
            async for row in connection.cursor(_GET_VERSIONS, project_id, names, numbers, prefetch=16):
                size += len(row["body"])
                if size > _MAX_ANSWER_BYTES:
                    raise InvalidError("prompts", f"have more than {_MAX_ANSWER_BYTES} bytes together; ask for fewer")
                known[row["name"], row["version"]] = PromptVersion.FromString(row["body"])
    found = [(head, known[head.name, number] if number else None) for head, number in meant]
    return [shown(version, head) if version else None for head, version in found]


def _described(selector: PromptSelector) -> str:
    if selector.HasField("version"):
        return f"version {selector.version} of a prompt {selector.name!r}"
    label = selector.label if selector.HasField("label") else PRODUCTION
    return f"prompt {selector.name!r} with the label {label!r}"
