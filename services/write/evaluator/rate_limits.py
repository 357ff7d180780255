"""Rate limits of providers: a token bucket each, shared by all workers in Redis; without Redis each has its share."""

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

MAX_WAIT_SECONDS = 2.0
"""Nobody waits longer to make a call: the slot would be idle while other providers could be called."""
_BURST_SECONDS = 0.5  # of calls that may be made at once
_REDIS_TIMEOUT_SECONDS = 0.25
_MAX_CONCURRENT = 4  # calls of Redis, and so connections; a hundred new ones at once take longer than that
_LUA = Path(__file__).parent / "lua"


class CallDelayedError(Exception):
    """No call may be made for some seconds: the job had better wait in the queue."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no call may be made for {seconds:.1f} s")
        self.seconds = seconds


@dataclass(slots=True)
class LocalRateLimit:
    """A provider's token bucket in this process; it counts as lua/take.lua does."""

    next_at: float = 0.0
    paused_until: float = 0.0

    def take(self, now: float, *, per_second: float | None) -> float:
        """Take the next call; returns the seconds to wait for it. `now` is in seconds too.

        Raises CallDelayedError when that is too long; then none is taken.
        """
        begin = max(now, self.paused_until)
        following = max(self.next_at, begin)
        call_at = max(begin, following - _BURST_SECONDS) if per_second else begin
        if call_at - now > MAX_WAIT_SECONDS:
            raise CallDelayedError(call_at - now)
        if per_second:
            self.next_at = following + 1 / per_second
        return call_at - now

    def pause(self, now: float, seconds: float) -> None:
        """Make no call for so many seconds."""
        self.paused_until = max(self.paused_until, now + seconds)


class RateLimits:
    """Spaces out calls. Redis costs at most a quarter of a second, and is not tried for a while when it is away."""

    def __init__(self, url: str, *, workers: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        """`workers` returns how many workers share the limits now."""
        # Every wait is bounded here: the client's own bound of a write swallows cancellations.
        self._redis: Any = Redis.from_url(
            url, socket_timeout=None, socket_connect_timeout=_REDIS_TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        self._take = self._redis.register_script((_LUA / "take.lua").read_text(encoding="utf-8"))
        self._pause = self._redis.register_script((_LUA / "pause.lua").read_text(encoding="utf-8"))
        self._workers, self._clock = workers, clock
        self._turn = asyncio.Semaphore(_MAX_CONCURRENT)
        self._local: dict[str, LocalRateLimit] = {}
        self._circuit = Circuit(first_seconds=0.5, longest_seconds=5.0)

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        await self._redis.aclose()

    async def wait(self, endpoint: Endpoint) -> None:
        """Return when a call of the endpoint may be made.

        Raises CallDelayedError when that is not soon.
        """
        await asyncio.sleep(await self._take_call(endpoint))

    async def pause(self, endpoint: Endpoint, seconds: float) -> None:
        """Have no worker call a provider for so many seconds, as it has asked for."""
        self._bucket(endpoint).pause(self._clock(), seconds)
        keys = _keys(endpoint.name)
        try:
            await self._call(self._pause, keys=[keys[1]], args=[max(1, round(seconds * 1000))])
        except (RedisError, OSError, TimeoutError, OpenError) as error:
            log.warning("Redis is away; only this worker lets the provider rest", error=type(error).__name__)

    async def _take_call(self, endpoint: Endpoint) -> float:
        rate = endpoint.requests_per_second
        interval = round(1e6 / rate) if rate else 0
        burst = max(1, round(rate * _BURST_SECONDS)) if rate else 1
        try:
            waits = await self._call(
                self._take, keys=_keys(endpoint.name), args=[interval, burst, round(MAX_WAIT_SECONDS * 1e6)]
            )
        except (RedisError, OSError, TimeoutError, OpenError):
            share = rate / max(1, self._workers()) if rate else None
            return self._bucket(endpoint).take(self._clock(), per_second=share)
        if waits < 0:
            raise CallDelayedError((-1 - waits) / 1e6)
        return float(waits) / 1e6

    async def _call(self, script: Any, *, keys: list[str], args: list[int]) -> int:
        async with self._turn:
            with self._circuit.trying((RedisError, OSError, TimeoutError)):
                async with asyncio.timeout(_REDIS_TIMEOUT_SECONDS):
                    return int(await script(keys=keys, args=args))

    def _bucket(self, endpoint: Endpoint) -> LocalRateLimit:
        return self._local.setdefault(endpoint.name, LocalRateLimit())


def _keys(name: str) -> list[str]:
    """The keys of a provider in Redis. The braces keep both on one node of a cluster."""
    return [f"lodestream:provider:{{{name}}}:next", f"lodestream:provider:{{{name}}}:rest"]
