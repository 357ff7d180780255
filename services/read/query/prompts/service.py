"""PromptService's reads, and what the caches of gateways ask for. Commands are the gateway's: here they are unknown."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.message import Message
from lodestream_proto.v1 import prompt_cache_pb2 as cache_pb
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompt_cache_pb2_grpc import PromptCacheServiceServicer
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceServicer

from services.read.query.database import Database
from services.read.query.freshness import freshness, wait_for
from services.read.query.prompts.get_prompt import get_prompt, get_prompts
from services.read.query.prompts.heads import get_prompt_heads
from services.read.query.prompts.label_history import label_history
from services.read.query.prompts.list_prompts import list_prompts
from services.read.query.prompts.list_versions import list_versions
from services.read.query.prompts.metrics import prompt_metrics
from services.read.query.prompts.verdict import get_verdict
from services.read.query.reading import Reads
from services.read.query.refusal import answering
from shared.event_log.topics import PROMPTS, TRACES
from shared.read_model.caller import project_of
from shared.runtime.refusal import Context

Response = TypeVar("Response", bound=Message)
Read = Callable[[Database, str, Any], Awaitable[Response]]


class _Reads:
    """For every call the project of its key, the wait it asks for, the answer, and how fresh that is."""

    def __init__(self, reads: Reads) -> None:
        self._database, self._keys, self._log_ends = reads.database, reads.keys, reads.log_ends

    async def _read(
        self, read: Read[Response], request: Any, context: Context, *, complete_in: str | None = None
    ) -> Response:
        """The answer; with how fresh it is where it tells that, which is as fresh as the projection of that topic."""

        async def answer() -> Response:
            project_id = await project_of(self._keys, context)
            if "wait_for" in request.DESCRIPTOR.fields_by_name:
                await wait_for(self._database, request.wait_for, context.time_remaining())
            if complete_in is None:
                return await read(self._database, project_id, request)
            fresh = await freshness(self._database, self._log_ends, (complete_in,))  # before the read: later only adds
            response: Any = await read(self._database, project_id, request)
            response.freshness.CopyFrom(fresh)
            return response  # type: ignore[no-any-return]

        return await answering(type(request).__name__.removesuffix("Request"), context, answer)


class PromptService(_Reads, PromptServiceServicer):
    """What clients read."""

    async def GetPrompt(self, request: pb.GetPromptRequest, context: Context) -> pb.GetPromptResponse:  # noqa: N802 - gRPC's name
        return await self._read(get_prompt, request, context)

    async def GetPrompts(self, request: pb.GetPromptsRequest, context: Context) -> pb.GetPromptsResponse:  # noqa: N802
        return await self._read(get_prompts, request, context)

    async def ListPrompts(self, request: pb.ListPromptsRequest, context: Context) -> pb.ListPromptsResponse:  # noqa: N802
        return await self._read(list_prompts, request, context, complete_in=PROMPTS)

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:  # noqa: N802
        return await self._read(list_versions, request, context, complete_in=PROMPTS)

    async def LabelHistory(self, request: pb.LabelHistoryRequest, context: Context) -> pb.LabelHistoryResponse:  # noqa: N802
        return await self._read(label_history, request, context, complete_in=PROMPTS)

    async def PromptMetrics(self, request: pb.PromptMetricsRequest, context: Context) -> pb.PromptMetricsResponse:  # noqa: N802
        return await self._read(prompt_metrics, request, context, complete_in=TRACES)

    async def GetVerdict(self, request: pb.GetVerdictRequest, context: Context) -> pb.GetVerdictResponse:  # noqa: N802
        return await self._read(get_verdict, request, context)


class PromptCacheService(_Reads, PromptCacheServiceServicer):
    """What gateways read."""

    async def GetPromptHeads(  # noqa: N802 - gRPC's name
        self, request: cache_pb.GetPromptHeadsRequest, context: Context
    ) -> cache_pb.GetPromptHeadsResponse:
        return await self._read(get_prompt_heads, request, context)
