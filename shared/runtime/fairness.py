"""Fair shares of what a process has little of: who waits is served in turn, tenant by tenant, for a bounded time."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from shared.runtime.refusal import RefusedError


class OverloadedError(RefusedError):
    """The tenant asks for more at once than its share; the call may be tried again."""

    def __init__(self, reason: str, *, retry_seconds: float) -> None:
        super().__init__(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, retry_seconds=retry_seconds)


class FairLimiter:
    """A capacity (calls, bytes) that tenants share.

    One tenant never holds more than `per_tenant` of it. Who has to wait is served in turn: one of each tenant, each
    tenant's own in the order in which they came.
    """

    def __init__(
        self, what: str, capacity: int, *, per_tenant: int, wait_seconds: float, max_waiting: int = 1_000
    ) -> None:
        """`what` is named in refusals. A wait ends after `wait_seconds`; a tenant has `max_waiting` waiting at most."""
        self._what, self._capacity, self._per_tenant = what, capacity, min(per_tenant, capacity)
        self._wait_seconds, self._max_waiting = wait_seconds, max_waiting
        self._used = 0
        self._used_by: Counter[str] = Counter()
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    @asynccontextmanager
    async def hold(self, tenant: str, amount: int = 1) -> AsyncIterator[None]:
        """Hold an amount while this is entered; more than a tenant's share counts as all of it.

        Raises OverloadedError: it was not free in time, or too many of the tenant wait already.
        """
        amount = self.share(amount)
        await self.acquire(tenant, amount)
        try:
            yield
        finally:
            self.release(tenant, amount)

    def share(self, amount: int) -> int:
        """The amount, or all that a tenant may hold where it is more."""
        return min(amount, self._per_tenant)

    async def acquire(self, tenant: str, amount: int = 1) -> None:
        """Hold an amount, which is at most a tenant's share, until it is released.

        Raises OverloadedError, as `hold` does.
        """
        if self.try_acquire(tenant, amount):
            return
        queue = self._waiting.setdefault(tenant, deque())
        if len(queue) >= self._max_waiting:
            raise self._overloaded(f"{len(queue)} of this project wait already")
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append((amount, granted))
        try:
            async with asyncio.timeout(self._wait_seconds):
                await granted
        except TimeoutError:
            self._withdraw(tenant, amount, granted)
            raise self._overloaded(
                f"this project has {self._used_by[tenant]}, and none was free for {self._wait_seconds:g} s"
            ) from None
        except asyncio.CancelledError:
            self._withdraw(tenant, amount, granted)
            raise

    def try_acquire(self, tenant: str, amount: int = 1) -> bool:
        """Hold an amount when that takes it from nobody who waits; whether it is held now."""
        if self._waiting.get(tenant) or not self._fits(tenant, amount) or self._somebody_could_go_on():
            return False
        self._take(tenant, amount)
        return True

    def release(self, tenant: str, amount: int = 1) -> None:
        """Give back what was held."""
        self._used -= amount
        self._used_by[tenant] -= amount
        if not self._used_by[tenant]:
            del self._used_by[tenant]
        self._serve()

    def _serve(self) -> None:
        """Let those go on whose turn it is, while there is room."""
        while self._serve_one():
            pass

    def _serve_one(self) -> bool:
        for tenant in list(self._waiting):
            queue = self._waiting[tenant]
            while queue and queue[0][1].done():
                queue.popleft()
            if not queue:
                del self._waiting[tenant]
                continue
            amount, granted = queue[0]
            if self._used_by[tenant] + amount > self._per_tenant:
                continue
            if self._used + amount > self._capacity:
                return False  # this one is next: small ones of others must not pass it for ever
            queue.popleft()
            self._take(tenant, amount)
            granted.set_result(None)
            self._waiting[tenant] = self._waiting.pop(tenant)  # to the end of the row
            return True
        return False

    def _somebody_could_go_on(self) -> bool:
        return any(
            self._used_by[tenant] + queue[0][0] <= self._per_tenant for tenant, queue in self._waiting.items() if queue
        )

    def _fits(self, tenant: str, amount: int) -> bool:
        return self._used + amount <= self._capacity and self._used_by[tenant] + amount <= self._per_tenant

    def _take(self, tenant: str, amount: int) -> None:
        self._used += amount
        self._used_by[tenant] += amount

    def _withdraw(self, tenant: str, amount: int, granted: "asyncio.Future[None]") -> None:
        if granted.done() and not granted.cancelled():
            self.release(tenant, amount)
            return
        granted.cancel()
        queue = self._waiting.get(tenant)
        if queue is not None:
            self._waiting[tenant] = deque(entry for entry in queue if entry[1] is not granted)
        self._serve()

    def _overloaded(self, why: str) -> OverloadedError:
        return OverloadedError(f"too many {self._what} at once: {why}; try again", retry_seconds=1.0)


class Turns:
    """The event loop's time for calls that compute much: in slices, one at a time, the tenants in turn."""

    def __init__(self, *, slice_seconds: float = 0.002) -> None:
        self._slice_seconds = slice_seconds
        self._limiter = FairLimiter("computations", 1, per_tenant=1, wait_seconds=60.0)

    def of(self, tenant: str) -> "Turn":
        """For one call of this tenant."""
        return Turn(self._limiter, tenant, self._slice_seconds)


class Turn:
    """One call's share of the event loop's time."""

    def __init__(self, limiter: FairLimiter, tenant: str, slice_seconds: float) -> None:
        self._limiter, self._tenant, self._slice_seconds = limiter, tenant, slice_seconds
        self._until = time.perf_counter() + slice_seconds

    async def give(self) -> None:
        """Let others go on when this call has had its slice; to be called after each small piece of work."""
        if time.perf_counter() < self._until:
            return
        async with self._limiter.hold(self._tenant):
            await asyncio.sleep(0)
        self._until = time.perf_counter() + self._slice_seconds
