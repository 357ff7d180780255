"""Prompts in Redis: one head a prompt, replaced whole, only by a newer one, whoever writes and however late.

`lodestream:prompt:{<project>:<sha256 of the name>}` is a hash: the head (PromptHead) and its revision; the same with
`:7` behind it are the bytes of version 7, which never change. Writers look first, then read Postgres, then offer. A key
that was lost in between (FLUSHALL, eviction, a restart) takes nothing from them: only the ticket of a look after the
loss opens it. So what is read here is never older than anything read here before.
"""

import asyncio
import hashlib
import random
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from lodestream_proto.v1.prompt_cache_pb2 import PromptChange, PromptHead
from lodestream_proto.v1.prompts_pb2 import PromptVersion
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.runtime.circuit import Circuit, OpenError

CHANNEL = "lodestream:prompts"
"""A PromptChange for each head that was taken."""
TICKET_MS = 10_000
"""From a look to the offer."""
UNKNOWN_MS = 5_000
"""How long it is known that a project has no such prompt."""
_KEPT_MS = 3_600_000
_LUA = Path(__file__).parent / "lua"
Place = tuple[str, str]
"""A project's id and a prompt's name."""
_SUBSCRIBE_SECONDS = 2.0


class CacheAwayError(Exception):
    """Redis does not answer, or has not answered a moment ago."""


@dataclass(frozen=True, slots=True)
class Miss:
    """Nothing is known. With a ticket, what is read from Postgres from now on may be offered."""

    ticket: str
    """Empty: Redis takes nothing."""
    first: bool
    """False: somebody else is about to fill it."""


class Offered(IntEnum):
    """What became of a head that was offered."""

    TAKEN = 1
    AS_MUCH_IS_KNOWN = 0
    LOST = -1
    """What was known is gone: look and read again."""
    FULL = -2
    """Redis has no memory for it; what it knew it has forgotten."""


class PromptCache:
    """Every call ends within `seconds`, and at once for a while after one that failed.

    All raise CacheAwayError.
    """

    def __init__(self, url: str, *, seconds: float = 0.1) -> None:
        # Every wait is bounded here: the client's own bound of a write, asyncio.wait_for, swallows cancellations.
        self._redis: Any = Redis.from_url(
            url, socket_timeout=None, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0)
        )
        self._look = self._redis.register_script((_LUA / "look.lua").read_text(encoding="utf-8"))
        self._offer = self._redis.register_script((_LUA / "offer.lua").read_text(encoding="utf-8"))
        self._seconds = seconds
        self._circuit = Circuit(first_seconds=0.5, longest_seconds=5.0)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def look(self, places: Sequence[Place]) -> list[PromptHead | Miss]:
        """What is known of each; a head of revision 0 says that there is no such prompt."""
        tickets = [secrets.token_hex(8) for _ in places]
        async with self._calling() as pipe:
            for place, ticket in zip(places, tickets, strict=True):
                await self._look(keys=[head_key(*place)], args=[ticket, TICKET_MS], client=pipe)
            answers = await pipe.execute()
        return [_looked(answer, ticket) for answer, ticket in zip(answers, tickets, strict=True)]

    async def offer(self, heads: Mapping[Place, tuple[PromptHead, str]]) -> dict[Place, Offered]:
        """Offer heads read from Postgres after a look, each with the ticket of its look ("" if it found something)."""
        async with self._calling() as pipe:
            for place, (head, ticket) in heads.items():
                await self._offer(keys=[head_key(*place)], args=_offer(place, head, ticket), client=pipe)
            answers = await pipe.execute()
        return {place: Offered(answer) for place, answer in zip(heads, answers, strict=True)}

    async def version(self, place: Place, version: int) -> PromptVersion | None:
        """A version by its number, without labels and revision; None: not known here."""
        async with self._calling() as pipe:
            pipe.get(_version_key(place, version))
            (body,) = await pipe.execute()
        return PromptVersion.FromString(body) if body else None

    async def keep_version(self, place: Place, version: PromptVersion) -> None:
        """Keep a version, without labels and revision."""
        async with self._calling() as pipe:
            pipe.set(_version_key(place, version.version), bare(version).SerializeToString(), px=_kept_ms())
            await pipe.execute(raise_on_error=False)

    async def changes(self) -> AsyncIterator[PromptChange | None]:
        """Each change as it is told; None: listening begins, and what was told before may have been missed.

        Ends with CacheAwayError when the connection is lost, or Redis is silent for a few seconds.
        """
        pubsub = self._redis.pubsub()
        try:
            async with asyncio.timeout(_SUBSCRIBE_SECONDS):  # nobody waits for it
                await pubsub.subscribe(CHANNEL)
            silent = 0
            while True:
                message = await pubsub.get_message(timeout=1.0)
                silent = 0 if message else silent + 1
                if message is None:
                    if silent > 2:
                        raise CacheAwayError("Redis is silent")
                    async with asyncio.timeout(self._seconds):
                        await pubsub.ping()
                elif message["type"] == "subscribe":
                    yield None
                elif message["type"] == "message":
                    yield PromptChange.FromString(message["data"])
        except (RedisError, OSError, TimeoutError) as error:
            raise CacheAwayError(f"{type(error).__name__}: {error}") from error
        finally:
            await pubsub.aclose()

    @asynccontextmanager
    async def _calling(self) -> AsyncIterator[Any]:
        try:
            with self._circuit.trying((RedisError, OSError, TimeoutError)):
                async with asyncio.timeout(self._seconds), self._redis.pipeline(transaction=False) as pipe:
                    yield pipe
        except (RedisError, OSError, TimeoutError, OpenError) as error:
            raise CacheAwayError(f"{type(error).__name__}: {error}") from error


def head_key(project_id: str, name: str) -> str:
    """Where a prompt's head is. The braces keep all keys of a prompt on one node of a cluster."""
    return f"lodestream:prompt:{{{project_id}:{hashlib.sha256(name.encode()).hexdigest()}}}"


def bare(version: PromptVersion) -> PromptVersion:
    """The version without what is not its own: labels and the prompt's revision."""
    copy = PromptVersion()
    copy.CopyFrom(version)
    copy.ClearField("labels")
    copy.ClearField("revision")
    return copy


def _version_key(place: Place, version: int) -> str:
    return f"{head_key(*place)}:{version}"


def _looked(answer: Any, ticket: str) -> PromptHead | Miss:
    revision, found = answer
    if revision is None:
        return Miss(found.decode(), first=found.decode() == ticket)
    return PromptHead.FromString(found)


def _offer(place: Place, head: PromptHead, ticket: str) -> list[Any]:
    known = head.revision > 0
    change = PromptChange(project_id=place[0], name=place[1], revision=head.revision)
    return [
        head.revision,
        ticket,
        head.SerializeToString(),
        _kept_ms() if known else UNKNOWN_MS,
        CHANNEL if known else "",
        change.SerializeToString(),
    ]


def _kept_ms() -> int:
    """Not all at once."""
    return round(_KEPT_MS * random.uniform(0.9, 1.1))  # noqa: S311 - jitter, no secret
