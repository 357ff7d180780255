"""Who may come in, and how much at once: the API key's project, its quota, and the bytes under way."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from services.write.gateway import metrics
from services.write.gateway.refusal import Context, RefusedError, unavailable
from shared.read_model.authentication import Authenticator, KeysUnavailableError, UnauthenticatedError

_REMEMBERED = 10_000


class Bucket:
    """A token bucket: `rate` a second, twice that at once."""

    __slots__ = ("_at", "_level", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._level, self._at = rate, 2 * rate, now

    def take(self, amount: float, now: float) -> float:
        """0.0 when the amount was there; else the seconds until it will be. An amount beyond the bucket empties it."""
        self._level = min(2 * self._rate, self._level + (now - self._at) * self._rate)
        self._at = now
        needed = min(amount, 2 * self._rate)
        if needed > self._level:
            return (needed - self._level) / self._rate
        self._level -= needed
        return 0.0


class Admission:
    """Admits requests, or raises RefusedError before any work was done for them."""

    def __init__(
        self,
        keys: Authenticator,
        *,
        max_in_flight_bytes: int,
        quota_bytes: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bytes are those of requests as they came, decompressed by gRPC; the quota is a project's, a second."""
        self._keys = keys
        self._room = self._most = max_in_flight_bytes
        self._quota = quota_bytes
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    async def project_of(self, context: Context) -> str:
        """The project of the call's API key."""
        metadata = dict(context.invocation_metadata() or ())
        authorization = metadata.get("authorization")
        try:
            return await self._keys.project_of(authorization if isinstance(authorization, str) else None)
        except UnauthenticatedError as error:
            raise RefusedError(grpc.StatusCode.UNAUTHENTICATED, str(error)) from None
        except KeysUnavailableError as error:
            raise unavailable(str(error), retry_seconds=5) from None

    @contextmanager
    def hold(self, project_id: str, size: int) -> Iterator[None]:
        """Room for a request while it is under way."""
        wait = self._bucket(project_id).take(size, self._clock())
        if wait:
            raise unavailable(f"the project sends more than {self._quota:,.0f} bytes a second", retry_seconds=wait)
        if size > self._room:
            raise unavailable(f"the gateway is full: {self._most - self._room} bytes are under way")
        self._room -= size
        metrics.IN_FLIGHT_BYTES.set(self._most - self._room)
        try:
            yield
        finally:
            self._room += size
            metrics.IN_FLIGHT_BYTES.set(self._most - self._room)

    def _bucket(self, project_id: str) -> Bucket:
        bucket = self._buckets.get(project_id)
        if bucket is None:
            bucket = self._buckets[project_id] = Bucket(self._quota, self._clock())
            if len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(project_id)
        return bucket
