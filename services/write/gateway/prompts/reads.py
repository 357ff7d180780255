"""GetPrompt and GetPrompts: from memory where it is fresh, else from where the store finds it."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
from lodestream_proto.v1.prompts_pb2 import (
    GetPromptRequest,
    GetPromptResponse,
    GetPromptsRequest,
    GetPromptsResponse,
    PromptSelector,
)

from services.write.gateway import metrics
from services.write.gateway.admission import Admission
from services.write.gateway.prompts.head_cache import Head, Key
from services.write.gateway.prompts.lookup import Store, caller_of
from services.write.gateway.write_rpc import check_count, read
from shared.rules.prompts import check_selector
from shared.runtime.refusal import Context, NotFoundError, RefusedError, answering
from shared.storage.prompt_heads import PRODUCTION

MAX_PROMPTS = 1_000
"""In one call."""
_MOST_BYTES = 32 * 1024 * 1024
"""Of the answer to one call."""
Forward = Callable[[bytes, Context], Awaitable[bytes]]


class Reads:
    """Answers with what the project has now, at most some seconds ago."""

    def __init__(self, admission: Admission, store: Store, forward: Forward) -> None:
        """`forward` is the query service's GetPrompt, for what no cache can answer."""
        self._admission, self._store, self._forward = admission, store, forward

    async def get_prompt(self, request: bytes, context: Context) -> bytes:
        """GetPrompt, bytes to bytes."""
        return await answering("GetPrompt", context, lambda: self._get_prompt(request, context))

    async def get_prompts(self, request: bytes, context: Context) -> bytes:
        """GetPrompts, bytes to bytes."""
        return await answering("GetPrompts", context, lambda: self._get_prompts(request, context))

    async def _get_prompt(self, request: bytes, context: Context) -> bytes:
        project_id = await self._admission.project_of(context)
        asked = read(GetPromptRequest, request)
        head = self._store.remembered((project_id, asked.prompt.name))
        if head is None or asked.HasField("as_of") or asked.wait_for.position:
            return await self._find(asked, request, context)
        number = head.number_of(asked.prompt)
        if number not in head.versions:
            return await self._find(asked, request, context)
        metrics.READ_FROM_MEMORY.inc()
        return head.answer(number)

    async def _find(self, asked: GetPromptRequest, request: bytes, context: Context) -> bytes:
        caller = await caller_of(self._admission, context)
        check_selector(asked.prompt, "prompt")
        key, at_least = (caller.project_id, asked.prompt.name), 0
        if asked.HasField("as_of"):
            return await self._forward(request, context)
        if asked.wait_for.position:
            reached = self._store.reached(key, asked.wait_for.position)
            if reached is None:
                return await self._wait(key, asked, request, context)
            at_least = reached
        head = await self._store.head(key, caller, at_least=at_least)
        number = head.number_of(asked.prompt)
        if not number:
            raise NotFoundError(_described(asked.prompt, head))
        await self._store.complete(key, head, number, caller)
        return head.answer(number)

    async def _wait(self, key: Key, asked: GetPromptRequest, request: bytes, context: Context) -> bytes:
        """The query service waits for the write; what it answers holds here from now on."""
        answer = await self._forward(request, context)
        revision = GetPromptResponse.FromString(answer).prompt.revision
        self._store.reach(key, asked.wait_for.position, revision)
        return answer

    async def _get_prompts(self, request: bytes, context: Context) -> bytes:
        caller = await caller_of(self._admission, context)
        asked = read(GetPromptsRequest, request)
        check_count(asked.prompts, "prompts", most=MAX_PROMPTS)
        heads: dict[Key, Head] = {}
        missing: set[Key] = set()
        for n, selector in enumerate(asked.prompts):
            key = (caller.project_id, selector.name)
            if head := self._store.remembered(key):
                heads[key] = head
            else:
                check_selector(selector, f"prompts[{n}]")
                missing.add(key)
        metrics.READ_FROM_MEMORY.inc(len(asked.prompts) - len(missing))
        found = await asyncio.gather(*(self._store.head(key, caller) for key in missing))
        heads.update(zip(missing, found, strict=True))
        answer, size = GetPromptsResponse(), 0
        for n, selector in enumerate(asked.prompts):
            head = heads[key := (caller.project_id, selector.name)]
            await self._store.complete(key, head, head.number_of(selector), caller)
            answer.outcomes.append(outcome := head.outcome(selector))
            size += outcome.ByteSize()
            if size > _MOST_BYTES:
                why = f"prompts[{n}]: the answer has more than {_MOST_BYTES} bytes here; ask for fewer at once"
                raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, why)
        return answer.SerializeToString()


def _described(selector: PromptSelector, head: Head) -> str:
    """What is not there, as "prompt 'a'", or "label 'production' of prompt 'a'"."""
    prompt = f"prompt {selector.name!r}"
    if not head.latest:
        return prompt
    if selector.HasField("version"):
        return f"version {selector.version} of {prompt}"
    return f"label {selector.label or PRODUCTION!r} of {prompt}"
