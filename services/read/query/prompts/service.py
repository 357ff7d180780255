"""PromptService's reads, and what the caches of gateways ask for. Commands are the gateway's: here they are unknown."""

from lodestream_proto.v1 import prompt_cache_pb2 as cache_pb
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompt_cache_pb2_grpc import PromptCacheServiceServicer
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceServicer

from services.read.query.prompts.get_prompt import get_prompt, get_prompts
from services.read.query.prompts.heads import get_prompt_heads
from services.read.query.prompts.label_history import label_history
from services.read.query.prompts.list_prompts import list_prompts
from services.read.query.prompts.list_versions import list_versions
from services.read.query.prompts.metrics import prompt_metrics
from services.read.query.prompts.verdict import get_verdict
from services.read.query.reading import Reads
from shared.event_log.topics import PROMPTS, TRACES
from shared.runtime.refusal import Context

_WITHOUT_FRESHNESS = ()


class PromptService(PromptServiceServicer):
    """What clients read."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def GetPrompt(self, request: pb.GetPromptRequest, context: Context) -> pb.GetPromptResponse:  # noqa: N802 - gRPC's name
        return await self._reads.answer(get_prompt, request, context, _WITHOUT_FRESHNESS)

    async def GetPrompts(self, request: pb.GetPromptsRequest, context: Context) -> pb.GetPromptsResponse:  # noqa: N802
        return await self._reads.answer(get_prompts, request, context, _WITHOUT_FRESHNESS)

    async def ListPrompts(self, request: pb.ListPromptsRequest, context: Context) -> pb.ListPromptsResponse:  # noqa: N802
        return await self._reads.answer(list_prompts, request, context, (PROMPTS,))

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:  # noqa: N802
        return await self._reads.answer(list_versions, request, context, (PROMPTS,))

    async def LabelHistory(self, request: pb.LabelHistoryRequest, context: Context) -> pb.LabelHistoryResponse:  # noqa: N802
        return await self._reads.answer(label_history, request, context, (PROMPTS,))

    async def PromptMetrics(self, request: pb.PromptMetricsRequest, context: Context) -> pb.PromptMetricsResponse:  # noqa: N802
        return await self._reads.answer(prompt_metrics, request, context, (TRACES,))

    async def GetVerdict(self, request: pb.GetVerdictRequest, context: Context) -> pb.GetVerdictResponse:  # noqa: N802
        return await self._reads.answer(get_verdict, request, context, _WITHOUT_FRESHNESS)


class PromptCacheService(PromptCacheServiceServicer):
    """What gateways read."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def GetPromptHeads(  # noqa: N802 - gRPC's name
        self, request: cache_pb.GetPromptHeadsRequest, context: Context
    ) -> cache_pb.GetPromptHeadsResponse:
        return await self._reads.answer(get_prompt_heads, request, context, _WITHOUT_FRESHNESS)
