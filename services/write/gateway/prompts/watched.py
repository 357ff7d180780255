"""One client that watches prompts: what it has been sent, and what is to be sent next. Never older, never a backlog."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lodestream_proto.v1.prompts_pb2 import PromptSelector, WatchPromptsRequest

from services.write.gateway.prompts.caller import Caller
from services.write.gateway.prompts.head import Head
from services.write.gateway.prompts.memory import Key
from shared.runtime.refusal import RefusedError

_STREAM_WEIGHT = 10
"""A stream takes the memory of some prompts, whatever it watches."""
_NOTHING = -1
"""Below the revision 0 of a prompt that does not exist: that is news too."""


class Stream:
    """What a client watches; of each prompt the newest head that it has not been sent."""

    def __init__(self, caller: Caller, request: WatchPromptsRequest, now: float) -> None:
        self.caller = caller
        self.selectors: Mapping[Key, Sequence[PromptSelector]] = _by_prompt(caller.project_id, request)
        self.weight = _STREAM_WEIGHT + len(request.prompts)
        """How many watched prompts it counts as."""
        self.ended: RefusedError | None = None
        self.is_new = True
        """The first response comes at once, whether there is news or not."""
        self._has: dict[Key, int] = {}
        for watched in request.prompts:
            key, known = (caller.project_id, watched.prompt.name), watched.known_revision or _NOTHING
            self._has[key] = min(known, self._has.get(key, known))
        self._held_at = dict.fromkeys(self._has, now)
        self._pending: dict[Key, _Pending] = {}
        self._wake = asyncio.Event()

    def known(self, key: Key) -> int:
        """The revision that the client has; 0 for nothing."""
        return max(0, self._has[key])

    def offer(self, key: Key, head: Head) -> None:
        """A head that may be news; what the client has, or would get anyhow, is none."""
        pending = self._pending.get(key)
        if head.revision > (pending.head.revision if pending else self._has[key]):
            self._pending[key] = _Pending(head, deque(self.selectors[key]))
            self._wake.set()

    def held(self, key: Key, now: float) -> None:
        """The prompt was looked at: what the client has, or will be sent, is true."""
        self._held_at[key] = now

    @property
    def held_since(self) -> float:
        """When the prompt was looked at that was not looked at for the longest time."""
        return min(self._held_at.values())

    def end(self, refused: RefusedError) -> None:
        """The client is to be told this, and nothing more."""
        self.ended = refused
        self._wake.set()

    async def news(self, within: float) -> bool:
        """Whether there is something to send, or the end; waits so many seconds for it."""
        if self._wake.is_set():
            return True
        try:
            async with asyncio.timeout(within):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> tuple[Key, Head, PromptSelector] | None:
        """What is to be sent next, of one selector; None: there is nothing. The client has it then."""
        for key, pending in self._pending.items():
            selector = pending.selectors.popleft()
            if not pending.selectors:
                self._has[key] = pending.head.revision
                del self._pending[key]
            return key, pending.head, selector
        if self.ended is None:
            self._wake.clear()
        return None


@dataclass(frozen=True, slots=True)
class _Pending:
    """A head, and the selectors of the client that it has not been sent for yet."""

    head: Head
    selectors: deque[PromptSelector]


def _by_prompt(project_id: str, request: WatchPromptsRequest) -> dict[Key, list[PromptSelector]]:
    found: dict[Key, list[PromptSelector]] = {}
    for watched in request.prompts:
        found.setdefault((project_id, watched.prompt.name), []).append(watched.prompt)
    return found
