"""How fast providers are called: a token bucket each, over all workers, in Redis; without it each has its share."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.write.evaluator.providers.endpoints import Endpoint
from shared.runtime.circuit import Circuit, OpenError

log = structlog.get_logger()

FURTHEST_SECONDS = 2.0
"""Nobody waits longer for a place: the slot would be idle while other providers could be called."""
_BURST_SECONDS = 0.5  # of calls that may be made at once
_REDIS_SECONDS = 0.25
_AT_ONCE = 4  # calls of Redis, and so connections; a hundred new ones at once take longer than that
_LUA = Path(__file__).parent / "lua"


class TooFarError(Exception):
    """The next place is too far away; the job had better wait in the queue."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no call may be made for {seconds:.1f} s")
        self.seconds = seconds


@dataclass(slots=True)
class Bucket:
    """The same as lua/take.lua, in this process."""

    next_at: float = 0.0
    rests_until: float = 0.0

    def take(self, now: float, *, per_second: float | None) -> float:
        """How long to wait for the place taken.

        Raises TooFarError; then none is taken.
        """
        begin = max(now, self.rests_until)
        following = max(self.next_at, begin)
        place = max(begin, following - _BURST_SECONDS) if per_second else begin
        if place - now > FURTHEST_SECONDS:
            raise TooFarError(place - now)
        if per_second:
            self.next_at = following + 1 / per_second
        return place - now

    def rest(self, now: float, seconds: float) -> None:
        """No place before then."""
        self.rests_until = max(self.rests_until, now + seconds)


class Limits:
    """Gives out places in time. Redis costs at most a quarter of a second, and is left alone for a while when away."""

    def __init__(self, url: str, *, workers: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        """`workers` tells how many share the limits now."""
        # Every wait is bounded here: the client's own bound of a write swallows cancellations.
        self._redis: Any = Redis.from_url(
            url, socket_timeout=None, socket_connect_timeout=_REDIS_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        self._take = self._redis.register_script((_LUA / "take.lua").read_text(encoding="utf-8"))
        self._rest = self._redis.register_script((_LUA / "rest.lua").read_text(encoding="utf-8"))
        self._workers, self._clock = workers, clock
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._local: dict[str, Bucket] = {}
        self._circuit = Circuit(first_seconds=0.5, longest_seconds=5.0)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def wait(self, endpoint: Endpoint) -> None:
        """Return when a call may be made.

        Raises TooFarError when that is not soon.
        """
        await asyncio.sleep(await self._place(endpoint))

    async def rest(self, endpoint: Endpoint, seconds: float) -> None:
        """Let all workers leave a provider alone for a while, as it has asked for."""
        self._bucket(endpoint).rest(self._clock(), seconds)
        keys = _keys(endpoint.name)
        try:
            await self._call(self._rest, keys=[keys[1]], args=[max(1, round(seconds * 1000))])
        except (RedisError, OSError, TimeoutError, OpenError) as error:
            log.warning("Redis is away; only this worker lets the provider rest", error=type(error).__name__)

    async def _place(self, endpoint: Endpoint) -> float:
        rate = endpoint.requests_per_second
        interval = round(1e6 / rate) if rate else 0
        burst = max(1, round(rate * _BURST_SECONDS)) if rate else 1
        try:
            waits = await self._call(
                self._take, keys=_keys(endpoint.name), args=[interval, burst, round(FURTHEST_SECONDS * 1e6)]
            )
        except (RedisError, OSError, TimeoutError, OpenError):
            share = rate / max(1, self._workers()) if rate else None
            return self._bucket(endpoint).take(self._clock(), per_second=share)
        if waits < 0:
            raise TooFarError((-1 - waits) / 1e6)
        return float(waits) / 1e6

    async def _call(self, script: Any, *, keys: list[str], args: list[int]) -> int:
        async with self._turn:
            with self._circuit.trying((RedisError, OSError, TimeoutError)):
                async with asyncio.timeout(_REDIS_SECONDS):
                    return int(await script(keys=keys, args=args))

    def _bucket(self, endpoint: Endpoint) -> Bucket:
        return self._local.setdefault(endpoint.name, Bucket())


def _keys(name: str) -> list[str]:
    """The braces keep both on one node of a cluster."""
    return [f"lodestream:provider:{{{name}}}:next", f"lodestream:provider:{{{name}}}:rest"]
