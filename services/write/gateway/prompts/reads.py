"""GetPrompt and GetPrompts: from memory where it is fresh, else by a look-up."""

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
from services.write.gateway.parsing import parse_request
from services.write.gateway.prompts.head_cache import Head, Key
from services.write.gateway.prompts.lookup import PromptLookup, caller_of
from shared.rules.prompts import check_count, check_selector
from shared.runtime.refusal import Context, NotFoundError, RefusedError, answering
from shared.storage.prompt_heads import PRODUCTION

MAX_PROMPTS = 1_000
"""The most prompts in one call."""
_MAX_RESPONSE_BYTES = 32 * 1024 * 1024
Forward = Callable[[bytes, Context], Awaitable[bytes]]


class PromptReads:
    """Answers with what the project has now, or had some seconds ago at most."""

    def __init__(self, admission: Admission, lookup: PromptLookup, forward: Forward) -> None:
        """`forward` is the query service's GetPrompt, for what no cache can answer."""
        self._admission, self._lookup, self._forward = admission, lookup, forward

    def methods(self) -> "dict[str, grpc.RpcMethodHandler[bytes, bytes]]":
        """Return the handlers of the RPCs by name, from bytes to bytes."""
        return {
            "GetPrompt": grpc.unary_unary_rpc_method_handler(self.get_prompt),
            "GetPrompts": grpc.unary_unary_rpc_method_handler(self.get_prompts),
        }

    async def get_prompt(self, request: bytes, context: Context) -> bytes:
        """Return one version of a prompt.

        Args:
            request: A GetPromptRequest: by version, by label (by default `production`), or as of an instant; with
                `wait_for` once what was written at a position can be read.
            context: The call.

        Returns:
            A GetPromptResponse.

        Raises:
            InvalidError: The selector can't mean a prompt.
            NotFoundError: The project has no such prompt, version or label.
            UnavailableError: It is in no cache, and the query service does not answer.
        """
        return await answering("GetPrompt", context, lambda: self._get_prompt(request, context))

    async def get_prompts(self, request: bytes, context: Context) -> bytes:
        """Return many prompts at once.

        Args:
            request: A GetPromptsRequest of at most 1,000 selectors.
            context: The call.

        Returns:
            A GetPromptsResponse with an outcome for each selector, in order; one that is not there is no refusal.

        Raises:
            InvalidError: There are too many selectors, or one of them can't mean a prompt.
            RefusedError: RESOURCE_EXHAUSTED when the response would have more than 32 MiB.
            UnavailableError: A prompt is in no cache, and the query service does not answer.
        """
        return await answering("GetPrompts", context, lambda: self._get_prompts(request, context))

    async def _get_prompt(self, request: bytes, context: Context) -> bytes:
        project_id = await self._admission.project_of(context)
        parsed = parse_request(GetPromptRequest, request)
        head = self._lookup.cached((project_id, parsed.prompt.name))
        if head is None or parsed.HasField("as_of") or parsed.wait_for.position:
            return await self._look_up(parsed, request, context)
        number = head.number_of(parsed.prompt)
        if number not in head.versions:
            return await self._look_up(parsed, request, context)
        metrics.READ_FROM_MEMORY.inc()
        return head.response(number)

    async def _look_up(self, parsed: GetPromptRequest, request: bytes, context: Context) -> bytes:
        caller = await caller_of(self._admission, context)
        check_selector(parsed.prompt, "prompt")
        key, at_least = (caller.project_id, parsed.prompt.name), 0
        if parsed.HasField("as_of"):
            return await self._forward(request, context)
        if parsed.wait_for.position:
            reached = self._lookup.reached(key, parsed.wait_for.position)
            if reached is None:
                return await self._wait(key, parsed, request, context)
            at_least = reached
        head = await self._lookup.head(key, caller, at_least=at_least)
        number = head.number_of(parsed.prompt)
        if not number:
            raise NotFoundError(_describe(parsed.prompt, head))
        await self._lookup.complete(key, head, number, caller)
        return head.response(number)

    async def _wait(self, key: Key, parsed: GetPromptRequest, request: bytes, context: Context) -> bytes:
        """Have the query service wait for the write; its response holds here from now on."""
        response = await self._forward(request, context)
        revision = GetPromptResponse.FromString(response).prompt.revision
        self._lookup.set_reached(key, parsed.wait_for.position, revision)
        return response

    async def _get_prompts(self, request: bytes, context: Context) -> bytes:
        caller = await caller_of(self._admission, context)
        parsed = parse_request(GetPromptsRequest, request)
        check_count(parsed.prompts, "prompts", most=MAX_PROMPTS)
        heads: dict[Key, Head] = {}
        missing: set[Key] = set()
        for n, selector in enumerate(parsed.prompts):
            key = (caller.project_id, selector.name)
            if head := self._lookup.cached(key):
                heads[key] = head
            else:
                check_selector(selector, f"prompts[{n}]")
                missing.add(key)
        metrics.READ_FROM_MEMORY.inc(len(parsed.prompts) - len(missing))
        looked_up = await asyncio.gather(*(self._lookup.head(key, caller) for key in missing))
        heads.update(zip(missing, looked_up, strict=True))
        response, size = GetPromptsResponse(), 0
        for n, selector in enumerate(parsed.prompts):
            head = heads[key := (caller.project_id, selector.name)]
            await self._lookup.complete(key, head, head.number_of(selector), caller)
            response.outcomes.append(outcome := head.outcome(selector))
            size += outcome.ByteSize()
            if size > _MAX_RESPONSE_BYTES:
                why = f"prompts[{n}]: the answer has more than {_MAX_RESPONSE_BYTES} bytes here; ask for fewer at once"
                raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, why)
        return response.SerializeToString()


def _describe(selector: PromptSelector, head: Head) -> str:
    """Return what is not there, for example "prompt 'a'", or "label 'production' of prompt 'a'"."""
    prompt = f"prompt {selector.name!r}"
    if not head.latest:
        return prompt
    if selector.HasField("version"):
        return f"version {selector.version} of {prompt}"
    return f"label {selector.label or PRODUCTION!r} of {prompt}"
