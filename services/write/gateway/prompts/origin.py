"""The layer behind all caches: the query service, which reads Postgres. It checks the caller's key itself."""

from collections.abc import Sequence
from typing import Any

import grpc
from lodestream_proto.v1.prompt_cache_pb2 import GetPromptHeadsRequest, GetPromptHeadsResponse, PromptHead
from lodestream_proto.v1.prompts_pb2 import GetPromptRequest, GetPromptResponse, PromptSelector, PromptVersion

from services.write.gateway.prompts.caller import Caller
from services.write.gateway.prompts.memory import Key
from services.write.gateway.prompts.together import Together
from shared.runtime.refusal import RefusedError, UnavailableError
from shared.storage.prompt_cache import bare

_SECONDS = 3.0
"""The longest a look-up may take."""
_RECONNECT_SECONDS = 0.8
"""The longest it waits for a query service that is away."""
_MOST, _AT_ONCE = 20, 4
"""Names in one call to the query service, calls of one caller at the same time."""
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class Origin:
    """Heads and versions as Postgres has them. All raise RefusedError."""

    def __init__(self, query: grpc.aio.Channel) -> None:
        self._get_heads: Any = query.unary_unary(
            "/lodestream_proto.v1.PromptCacheService/GetPromptHeads",
            request_serializer=GetPromptHeadsRequest.SerializeToString,
            response_deserializer=GetPromptHeadsResponse.FromString,
        )
        self._get_prompt: Any = query.unary_unary(
            "/lodestream_proto.v1.PromptService/GetPrompt",
            request_serializer=GetPromptRequest.SerializeToString,
            response_deserializer=GetPromptResponse.FromString,
        )
        self._together: dict[Caller, Together[str, PromptHead]] = {}

    async def head(self, key: Key, caller: Caller) -> PromptHead:
        """The head of a prompt of the caller's project; of revision 0 when there is none."""
        together = self._together.get(caller)
        if together is None:
            together = self._together[caller] = Together(
                lambda names: self._heads(names, caller), most=_MOST, at_once=_AT_ONCE
            )
        try:
            return await together.ask(key[1])
        finally:
            if together.is_idle:
                self._together.pop(caller, None)

    async def version(self, key: Key, number: int, caller: Caller) -> PromptVersion:
        """A version, without labels and revision."""
        request = GetPromptRequest(prompt=PromptSelector(name=key[1], version=number))
        answer: GetPromptResponse = await _asking(self._get_prompt, request, caller)
        return bare(answer.prompt)

    async def _heads(self, names: Sequence[str], caller: Caller) -> Sequence[PromptHead]:
        answer: GetPromptHeadsResponse = await _asking(self._get_heads, GetPromptHeadsRequest(names=names), caller)
        return answer.heads


async def _asking(call: Any, request: Any, caller: Caller) -> Any:
    """The answer. A channel that waits before it connects again says UNAVAILABLE at once: such a call is made anew."""
    try:
        try:
            return await call(request, metadata=caller.metadata, timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return await call(request, metadata=caller.metadata, timeout=_RECONNECT_SECONDS, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        if error.code() in _PASSING:
            raise UnavailableError("the prompt is in no cache, and the query service does not answer") from None
        raise RefusedError(error.code(), error.details() or "") from None
