"""PromptService's reads: versions of prompts, their heads, labels and metrics, and verdicts on commands."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import asyncpg
from lodestream_proto.v1 import prompt_cache_pb2 as cache_pb
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompt_cache_pb2 import PromptHead
from lodestream_proto.v1.prompt_cache_pb2_grpc import PromptCacheServiceServicer
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceServicer
from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR, SPAN_TYPE_GENERATION

from services.read.query.database import Database
from services.read.query.filters import Conditions, to_datetime
from services.read.query.messages import timestamp
from services.read.query.money import to_dollars
from services.read.query.paging import PAGE_BYTES, Int4, PageRequest
from services.read.query.read_context import ReadContext
from shared.event_log.topics import PROMPTS, TRACES
from shared.rules.prompts import check_count, check_label, check_name, check_selector, command_id
from shared.runtime.refusal import Context, InvalidError, NotFoundError
from shared.storage.named_queries import load_queries
from shared.storage.prompt_heads import PRODUCTION, content_in, shown, version_meant
from shared.storage.prompt_rows import holders, read_heads

_QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
_GET_VERSIONS = _QUERIES["get_versions"]
_HEAD_AS_OF = _QUERIES["head_as_of"]
_LIST_PROMPTS, _PROMPT_EXISTS = _QUERIES["list_prompts"], _QUERIES["prompt_exists"]
_LIST_VERSIONS = _QUERIES["list_versions"]
_LABEL_HISTORY = _QUERIES["label_history"]
_PROMPT_METRICS, _SCORE_AVERAGES = _QUERIES["prompt_metrics"], _QUERIES["score_averages"]
_GET_VERDICT = _QUERIES["get_verdict"]
_HAS_LABEL = """EXISTS (
    SELECT FROM prompt_labels
    WHERE project_id = $1 AND name = prompts.name AND label = {} AND version > 0
)"""
_WITHOUT_FRESHNESS = ()
MAX_PROMPTS = 1_000
"""Prompts that one call may name."""
_MAX_ANSWER_BYTES = 32 * 1024 * 1024


class PromptService(PromptServiceServicer):
    """The reads of prompts; the methods that change them are the gateway's and are not served here.

    What every read may be refused with is said at QueryService.
    """

    def __init__(self, read_context: ReadContext) -> None:
        self._read_context = read_context

    async def GetPrompt(self, request: pb.GetPromptRequest, context: Context) -> pb.GetPromptResponse:  # noqa: N802 - gRPC's name
        """Return a version of a prompt from the tables, now or as of an instant.

        Args:
            request: A selector: the name with a version or a label (`production` by default).
            context: The call.

        Returns:
            The version, with its labels and the revision.

        Raises:
            InvalidError: The selector can't mean a prompt.
            NotFoundError: The project has no such prompt, version or label.
        """
        return await self._read_context.run(get_prompt, request, context, _WITHOUT_FRESHNESS)

    async def GetPrompts(self, request: pb.GetPromptsRequest, context: Context) -> pb.GetPromptsResponse:  # noqa: N802
        """Return many prompts at once.

        Args:
            request: At most 1,000 selectors.
            context: The call.

        Returns:
            An outcome for each, in order; one that is not there is no refusal.

        Raises:
            InvalidError: A selector can't mean a prompt, there are too many, or they are too large together.
        """
        return await self._read_context.run(get_prompts, request, context, _WITHOUT_FRESHNESS)

    async def ListPrompts(self, request: pb.ListPromptsRequest, context: Context) -> pb.ListPromptsResponse:  # noqa: N802
        """Return prompts by name.

        Args:
            request: A label, a tag, a part of the name, whether to list archived ones; `page_size` (50 by default, at
                most 1,000) and `page_token`.
            context: The call.

        Returns:
            A page of prompts, and a token when there are more.

        Raises:
            InvalidError: A field of the filter or the token is wrong.
        """
        return await self._read_context.run(list_prompts, request, context, (PROMPTS,))

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:  # noqa: N802
        """Return the versions of a prompt, the newest first.

        Args:
            request: The name, `page_size` (50 by default, at most 1,000) and `page_token`.
            context: The call.

        Returns:
            A page of versions, and a token when there are more.

        Raises:
            InvalidError: A field or the token is wrong.
            NotFoundError: The project has no such prompt.
        """
        return await self._read_context.run(list_versions, request, context, (PROMPTS,))

    async def LabelHistory(self, request: pb.LabelHistoryRequest, context: Context) -> pb.LabelHistoryResponse:  # noqa: N802
        """Return the decided changes of a prompt's labels, the newest first.

        Args:
            request: The name, optionally a label, `page_size` (50 by default, at most 1,000) and `page_token`.
            context: The call.

        Returns:
            A page of changes: who, when, from and to; and a token when there are more.

        Raises:
            InvalidError: A field or the token is wrong.
            NotFoundError: The project has no such prompt.
        """
        return await self._read_context.run(label_history, request, context, (PROMPTS,))

    async def PromptMetrics(self, request: pb.PromptMetricsRequest, context: Context) -> pb.PromptMetricsResponse:  # noqa: N802
        """Return what generations made with each version of a prompt were like.

        Args:
            request: The name and a range of time.
            context: The call.

        Returns:
            Counts, latencies, tokens and costs of each version.

        Raises:
            InvalidError: A field is wrong.
        """
        return await self._read_context.run(prompt_metrics, request, context, (TRACES,))

    async def GetVerdict(self, request: pb.GetVerdictRequest, context: Context) -> pb.GetVerdictResponse:  # noqa: N802
        """Return what the log has decided of a command.

        Args:
            request: The command id, the prompt's name, and the command's position to wait for.
            context: The call.

        Returns:
            Done, with version and revision, or refused, with the reason.

        Raises:
            InvalidError: The command id or the name is wrong.
            NotFoundError: There is no verdict yet.
        """
        return await self._read_context.run(get_verdict, request, context, _WITHOUT_FRESHNESS)


class PromptCacheService(PromptCacheServiceServicer):
    """What the caches of gateways read."""

    def __init__(self, read_context: ReadContext) -> None:
        self._read_context = read_context

    async def GetPromptHeads(  # noqa: N802 - gRPC's name
        self, request: cache_pb.GetPromptHeadsRequest, context: Context
    ) -> cache_pb.GetPromptHeadsResponse:
        """Return heads of prompts for a gateway's cache.

        Args:
            request: At most 1,000 names of prompts of the caller's project.
            context: The call.

        Returns:
            A head for each, in order; of revision 0 when there is none.

        Raises:
            InvalidError: A name is wrong, or there are too many.
        """
        return await self._read_context.run(get_prompt_heads, request, context, _WITHOUT_FRESHNESS)


async def get_prompt(database: Database, project_id: str, request: pb.GetPromptRequest) -> pb.GetPromptResponse:
    """Return a version by its number or label, now or as of an instant.

    Raises RefusedError: the selector can't be used, or the project has (or had then) nothing that it selects.
    """
    selector = request.prompt
    check_selector(selector, "prompt")
    if request.HasField("as_of"):
        instant = to_datetime("as_of", request.as_of)
        head = await head_as_of(database, project_id, selector.name, instant)
    else:
        head = (await heads_of(database, project_id, [selector.name]))[selector.name]
    (version,) = await _versions(database, project_id, [(head, version_meant(head, selector))])
    if version is None:
        raise NotFoundError(_described(selector))
    return pb.GetPromptResponse(prompt=version)


async def get_prompts(database: Database, project_id: str, request: pb.GetPromptsRequest) -> pb.GetPromptsResponse:
    """Return an outcome for each selector.

    Raises RefusedError: a selector can't be used, or they are too many or too large together.
    """
    check_count(request.prompts, "prompts", most=MAX_PROMPTS)
    for n, selector in enumerate(request.prompts):
        check_selector(selector, f"prompts[{n}]")
    heads = await heads_of(database, project_id, [selector.name for selector in request.prompts])
    selected = [(heads[selector.name], version_meant(heads[selector.name], selector)) for selector in request.prompts]
    versions = await _versions(database, project_id, selected)
    return pb.GetPromptsResponse(
        outcomes=[
            pb.PromptOutcome(prompt=selector, found=version, revision=head.revision)
            for selector, (head, _), version in zip(request.prompts, selected, versions, strict=True)
        ]
    )


async def list_prompts(database: Database, project_id: str, request: pb.ListPromptsRequest) -> pb.ListPromptsResponse:
    """Return a page of prompts, by name.

    Raises RefusedError naming the field that can't be used.
    """
    page = PageRequest.of(request, str)
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
    if page.last:
        conditions.add("prompts.name > {}", page.last[0])
    statement = _LIST_PROMPTS.format(conditions=conditions.sql(), limit=page.limit(conditions))
    rows = await database.search_pool.fetch(statement, *conditions.parameters)
    rows, token = page.cut(rows, "name")
    return pb.ListPromptsResponse(prompts=[_summary(row) for row in rows], next_page_token=token)


async def list_versions(
    database: Database, project_id: str, request: pb.ListVersionsRequest
) -> pb.ListVersionsResponse:
    """Return a page of a prompt's versions, newest first; also of an archived one.

    Raises RefusedError: the project has no such prompt, or a field can't be used.
    """
    check_name(request.name, "name")
    page = PageRequest.of(request, Int4, bound=request.name.encode())
    head = (await heads_of(database, project_id, [request.name]))[request.name]
    if not head.revision:
        raise NotFoundError(f"prompt {request.name!r}")
    before = page.last[0] if page.last else head.latest_version + 1
    rows = await database.search_pool.fetch(_LIST_VERSIONS, project_id, request.name, before, page.size, PAGE_BYTES)
    more = rows and rows[-1]["version"] > 1
    return pb.ListVersionsResponse(
        versions=[shown(pb.PromptVersion.FromString(row["body"]), head) for row in rows],
        next_page_token=page.token_after(rows[-1]["version"]) if more else "",
    )


async def label_history(
    database: Database, project_id: str, request: pb.LabelHistoryRequest
) -> pb.LabelHistoryResponse:
    """Return a page of the decided changes of a prompt's labels, newest first; also of an archived prompt.

    Raises RefusedError: the project has no such prompt, or a field can't be used.
    """
    check_name(request.name, "name")
    page = PageRequest.of(request, int, str)
    conditions = Conditions(project_id, request.name)
    if request.label:
        check_label(request.label, "label")
        conditions.add("label = {}", request.label)
    if page.last:
        revision, label = map(conditions.parameter, page.last)
        conditions.add_raw(f"revision <= {revision} AND (revision < {revision} OR label > {label})")
    statement = _LABEL_HISTORY.format(conditions=conditions.sql(), limit=page.limit(conditions))
    rows = await database.search_pool.fetch(statement, *conditions.parameters)
    if not rows and not await database.search_pool.fetchval(_PROMPT_EXISTS, project_id, request.name):
        raise NotFoundError(f"prompt {request.name!r}")
    rows, token = page.cut(rows, "revision", "label")
    return pb.LabelHistoryResponse(moves=[_move(row) for row in rows], next_page_token=token)


async def prompt_metrics(
    database: Database, project_id: str, request: pb.PromptMetricsRequest
) -> pb.PromptMetricsResponse:
    """Return figures of the generations that were made with each version, newest first.

    A prompt that nobody used has none, whether it exists or not.

    Raises RefusedError naming the field that can't be used.
    """
    check_name(request.name, "name")
    since = to_datetime("start_from", request.start_from) if request.HasField("start_from") else None
    before = to_datetime("start_before", request.start_before) if request.HasField("start_before") else None
    conditions = Conditions(project_id, request.name, SPAN_TYPE_GENERATION, LEVEL_ERROR)
    if since:
        conditions.add("start_at >= {}", since)
    if before:
        conditions.add("start_at < {}", before)
    rows = await database.search_pool.fetch(_PROMPT_METRICS.format(conditions=conditions.sql()), *conditions.parameters)
    scores: dict[int, list[pb.ScoreAverage]] = defaultdict(list)
    for score in await database.search_pool.fetch(_SCORE_AVERAGES, project_id, request.name, since, before):
        average = pb.ScoreAverage(name=score["score_name"], count=score["score_count"], average=score["score_average"])
        scores[score["version"]].append(average)
    return pb.PromptMetricsResponse(versions=[_metrics(row, scores[row["prompt_version"]]) for row in rows])


async def get_verdict(database: Database, project_id: str, request: pb.GetVerdictRequest) -> pb.GetVerdictResponse:
    """Return the first verdict on a command.

    Raises RefusedError: the id can't be used, or the read model does not hold such a command.
    """
    identity = uuid.UUID(command_id(request.command_id))
    if request.prompt_name:
        check_name(request.prompt_name, "prompt_name")
    row = await database.point_pool.fetchrow(_GET_VERDICT, project_id, identity, request.prompt_name or None)
    if row is None:
        raise NotFoundError(f"verdict on command {request.command_id}: wait for its position")
    return pb.GetVerdictResponse(
        version=row["version"], revision=row["revision"], refusal=row["refusal"], reason=row["reason"]
    )


async def get_prompt_heads(
    database: Database, project_id: str, request: cache_pb.GetPromptHeadsRequest
) -> cache_pb.GetPromptHeadsResponse:
    """Return a head for each name, whether there is such a prompt or not.

    Raises RefusedError: too many names, or one that no prompt can have.
    """
    check_count(request.names, "names", most=MAX_PROMPTS)
    for n, name in enumerate(request.names):
        check_name(name, f"names[{n}]")
    heads = await heads_of(database, project_id, request.names)
    return cache_pb.GetPromptHeadsResponse(heads=[heads[name] for name in request.names])


async def heads_of(database: Database, project_id: str, names: Sequence[str]) -> dict[str, PromptHead]:
    """Return the heads of prompts as they are now, by name."""
    heads = await read_heads(database.search_pool, [(project_id, name) for name in names])
    return {name: head for (_, name), head in heads.items()}


async def head_as_of(database: Database, project_id: str, name: str, instant: datetime) -> PromptHead:
    """Return the head that a prompt had at an instant, without contents; revision 0 if there was no such prompt."""
    row = await database.search_pool.fetchrow(_HEAD_AS_OF, project_id, name, instant)
    if row is None:
        return PromptHead(name=name)
    return PromptHead(
        name=name,
        revision=row["revision"],
        archived=row["archived"],
        latest_version=row["latest_version"],
        labels=holders(row["labels"] or (), row["versions"] or ()),
    )


async def _versions(
    database: Database, project_id: str, selected: Sequence[tuple[PromptHead, int | None]]
) -> list[pb.PromptVersion | None]:
    """Return versions by head and number as their heads show them; those that the heads don't carry are read."""
    versions = {(head.name, number): content_in(head, number) for head, number in selected if number}
    missing = [key for key, version in versions.items() if version is None]
    if missing:
        names, numbers = (list(column) for column in zip(*missing, strict=True))
        size = 0
        async with database.search_pool.acquire() as connection, connection.transaction():
            async for row in connection.cursor(_GET_VERSIONS, project_id, names, numbers, prefetch=16):
                size += len(row["body"])
                if size > _MAX_ANSWER_BYTES:
                    raise InvalidError("prompts", f"have more than {_MAX_ANSWER_BYTES} bytes together; ask for fewer")
                versions[row["name"], row["version"]] = pb.PromptVersion.FromString(row["body"])
    contents = [(head, versions[head.name, number] if number else None) for head, number in selected]
    return [shown(version, head) if version else None for head, version in contents]


def _described(selector: pb.PromptSelector) -> str:
    if selector.HasField("version"):
        return f"version {selector.version} of a prompt {selector.name!r}"
    label = selector.label if selector.HasField("label") else PRODUCTION
    return f"prompt {selector.name!r} with the label {label!r}"


def _summary(row: asyncpg.Record) -> pb.PromptSummary:
    return pb.PromptSummary(
        name=row["name"],
        is_chat=row["is_chat"],
        latest_version=row["latest_version"],
        labels=holders(row["labels"] or (), row["versions"] or ()),
        tags=row["tags"],
        revision=row["revision"],
        archived=row["archived"],
        created_at=timestamp(row["created_at"]),
        updated_at=timestamp(row["updated_at"]),
    )


def _move(row: asyncpg.Record) -> pb.LabelMove:
    return pb.LabelMove(
        label=row["label"],
        from_version=row["from_version"],
        to_version=row["to_version"],
        author=row["author"],
        moved_at=timestamp(row["moved_at"]),
        revision=row["revision"],
    )


def _metrics(row: asyncpg.Record, scores: Sequence[pb.ScoreAverage]) -> pb.PromptVersionMetrics:
    return pb.PromptVersionMetrics(
        version=row["prompt_version"],
        generations=row["generations"],
        errors=row["errors"],
        latency_p50_us=row["latency_p50_us"] or 0,
        latency_p95_us=row["latency_p95_us"] or 0,
        input_tokens_avg=row["input_tokens_avg"],
        output_tokens_avg=row["output_tokens_avg"],
        cost_usd_total=to_dollars(float(row["cost_picos"])),
        cost_usd_avg=to_dollars(float(row["cost_picos"]) / row["generations"]),
        first_used_at=timestamp(row["first_used_at"]),
        scores=scores,
        last_used_at=timestamp(row["last_used_at"]),
    )
