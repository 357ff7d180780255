"""Fair shares of what a process has little of: capacity, the event loop's time, and calls a second.

Who waits is served in turn, tenant by tenant, for a bounded time. What only protects others (pauses, the pace) applies
while others call, and never to a tenant that is alone.
"""

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar

import grpc

from shared.runtime.lru_cache import LruCache
from shared.runtime.refusal import RefusedError
from shared.runtime.token_bucket import Buckets

_REMEMBERED = 10_000
"""Tenants of which a process keeps account."""
_RECENT_SECONDS = 5.0
_QUICK_SECONDS = 0.01
_MAX_REST_SECONDS = 2.0
_MEMORY_SECONDS = 10.0
_MAX_HEAVY = 100
_TICK_SECONDS = 0.02
_MAX_REFUSED_WAITING = 1_000
_REFUSED_AFTER_SECONDS = 0.2
Answer = TypeVar("Answer")


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


class RecentTenants:
    """Which tenants have called within the last seconds."""

    def __init__(self, *, seconds: float = _RECENT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._called_at: LruCache[str, float] = LruCache(_REMEMBERED)

    def add(self, tenant: str) -> None:
        """A call of the tenant arrives."""
        self._called_at[tenant] = self._clock()

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._called_at)

    def has_others(self, tenant: str) -> bool:
        """Whether a tenant other than this one has called lately."""
        for other in reversed(self._called_at):
            if other != tenant:
                return self._clock() - (self._called_at.peek(other) or 0.0) < self._seconds
        return False


class LoopLateness:
    """How late an event loop runs what is due: by the loop's own work, or because the machine gives it no time."""

    def __init__(
        self, *, late_seconds: float, hold_seconds: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`late_seconds`: what counts as late; 0: always. It counts for `hold_seconds`."""
        self._late_seconds, self._hold_seconds, self._clock = late_seconds, hold_seconds, clock
        self._late_at = clock() if not late_seconds else float("-inf")

    @property
    def is_late(self) -> bool:
        """Whether the loop was late within the last seconds."""
        return not self._late_seconds or self._clock() - self._late_at < self._hold_seconds

    def observe(self, overdue_seconds: float) -> None:
        """Something ran so much later than it was due."""
        if overdue_seconds >= self._late_seconds:
            self._late_at = self._clock()

    async def watch(self) -> None:
        """Observe the running loop for ever."""
        while True:
            due = self._clock() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            self.observe(self._clock() - due)


class Pacer:
    """The pace of calls while several tenants call and the process is late: what is beyond a fair rate waits in order.

    A call that waits costs a timer. It is to be paced before any work is done for it, so that callers who send the next
    call when the last is answered slow down, instead of everybody.
    """

    def __init__(
        self,
        lateness: LoopLateness,
        *,
        per_second: float,
        burst_seconds: float,
        wait_seconds: float,
        count: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Calls `per_second` of each tenant are fair, after a burst. A call waits for `wait_seconds` at most.

        `count` is called for each call beyond the fair rate, with "waited" or "refused".
        """
        self.tenants = RecentTenants(clock=clock)
        self._lateness, self._count, self._clock = lateness, count, clock
        self._rate, self._wait_seconds = per_second, wait_seconds
        self._buckets = Buckets(per_second, per_second * burst_seconds, clock)
        self._refused = 0

    async def pace(self, tenant: str, *, within: float | None = None) -> None:
        """Return when the call may go on.

        Raises OverloadedError: that would not be `within` so many seconds (None: any), or it would take too long.
        """
        try:
            wait = self.reserve(tenant, within=within)
        except OverloadedError:
            self._count("refused")
            await self._slow_down()
            raise
        if wait:
            self._count("waited")
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                self._buckets.of(tenant).take(-1, self._clock())
                raise

    def reserve(self, tenant: str, *, within: float | None = None) -> float:
        """Take the next place of the tenant; gives the seconds until its time has come.

        Raises OverloadedError, as `pace` does; then no place is taken.
        """
        self.tenants.add(tenant)
        now, bucket = self._clock(), self._buckets.of(tenant)
        if not self._is_paced(tenant):
            bucket.take_available(1, now)
            return 0.0
        wait = bucket.wait(now)
        if wait:
            wait += -(now + wait) % _TICK_SECONDS  # calls that go on together can share what they cost
        if wait > min(self._wait_seconds, self._wait_seconds if within is None else within):
            raise OverloadedError(
                f"this project makes more than {self._rate:g} calls a second, or fewer that are as much work: its fair"
                " rate while others call",
                retry_seconds=max(1.0, wait),
            )
        bucket.take(1, now)
        return wait

    def charge(self, tenant: str, calls: float) -> None:
        """Count a call that has gone on as so many more, which the tenant's next calls wait for."""
        now, bucket = self._clock(), self._buckets.of(tenant)
        if self._is_paced(tenant):
            bucket.take(calls, now)
        else:
            bucket.take_available(calls, now)

    def _is_paced(self, tenant: str) -> bool:
        return self._lateness.is_late and self.tenants.has_others(tenant)

    async def _slow_down(self) -> None:
        """Let who is refused wait for it: one that calls again at once takes less of the process's time."""
        if self._refused < _MAX_REFUSED_WAITING:
            self._refused += 1
            try:
                await asyncio.sleep(_REFUSED_AFTER_SECONDS)
            finally:
                self._refused -= 1


class BulkCalls:
    """Calls of the tenants that use the most time, while others call: few at one time, in turn.

    These are the tenants that have used more than a fair share, and half of what the heaviest has. Time is what a call
    takes beyond its first 10 ms: whoever is slow because of others is not slowed down for it. After such a call comes a
    rest as long as it took, up to two seconds: half of the time the machine is free of them.
    """

    def __init__(
        self,
        at_once: int,
        *,
        fair_share: float,
        wait_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`at_once`: calls of all tenants beyond their shares. `fair_share`: seconds a second."""
        self.tenants = RecentTenants(clock=clock)
        self._limiter = FairLimiter("heavy calls", at_once, per_tenant=at_once, wait_seconds=wait_seconds)
        self._fair_seconds, self._clock = fair_share * _MEMORY_SECONDS, clock
        self._used: dict[str, tuple[float, float]] = {}  # seconds, as of when

    async def serve(
        self, tenant: str, room: Callable[[], AbstractAsyncContextManager[None]], call: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """The answer of a call that is made within `room`, and charged with the time that it takes.

        Raises OverloadedError: it is beyond the fair share, and its turn has not come in time.
        """
        if not self.is_beyond(tenant):
            async with room():
                if not self.is_beyond(tenant):  # those before it may have used up the share
                    return await self._charged(tenant, call)
        await self._limiter.acquire(tenant)
        rest = 0.0
        try:
            async with room():
                began = self._clock()
                try:
                    return await self._charged(tenant, call)
                finally:
                    rest = min(self._clock() - began, _MAX_REST_SECONDS)
        finally:
            asyncio.get_running_loop().call_later(rest, self._limiter.release, tenant)

    def is_beyond(self, tenant: str) -> bool:
        """Whether the tenant is one of the heaviest, and others call."""
        if (used := self._seconds(tenant)) <= self._fair_seconds or not self.tenants.has_others(tenant):
            return False
        return used >= max(map(self._seconds, self._used)) / 2

    def charge(self, tenant: str, seconds: float) -> None:
        """A call of the tenant has taken so long."""
        if (beyond := seconds - _QUICK_SECONDS) <= 0:
            return
        self._used[tenant] = self._seconds(tenant) + beyond, self._clock()
        if len(self._used) > _MAX_HEAVY:
            del self._used[min(self._used, key=self._seconds)]

    def _seconds(self, tenant: str) -> float:
        """What the tenant has used, the older the less."""
        used, at = self._used.get(tenant, (0.0, 0.0))
        return used * math.exp((at - self._clock()) / _MEMORY_SECONDS)

    async def _charged(self, tenant: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        began = self._clock()
        try:
            return await call()
        finally:
            self.charge(tenant, self._clock() - began)


class Turns:
    """The event loop's time for calls that compute much: in slices, one at a time, the tenants in turn.

    While other tenants call, the loop has as long for everything else after a slice as the slice took: a call needs
    several rounds of the loop, and each would last a slice otherwise.
    """

    def __init__(self, *, slice_seconds: float = 0.002, has_others: Callable[[str], bool] = lambda _: False) -> None:
        """`has_others` says whether tenants other than the given one call."""
        self.slice_seconds, self.has_others = slice_seconds, has_others
        self._taken = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def of(self, tenant: str) -> "Turn":
        """For one call of this tenant."""
        return Turn(self, tenant)

    async def take(self, tenant: str) -> None:
        """Wait for a turn; whoever has taken one passes it on."""
        if not self._taken:
            self._taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.pass_on()
            raise

    def pass_on(self) -> None:
        """Give the turn to the tenant that has waited longest for its next one."""
        while self._waiting:
            tenant, waiting = self._waiting.popitem(last=False)
            turn = waiting.popleft()
            if waiting:
                self._waiting[tenant] = waiting
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False


class Turn:
    """One call's share of the event loop's time.

    As a context manager its body begins when it is the call's turn, and only computes. A call that also waits for
    other things computes without: it stands in line only once it has used a slice.
    """

    __slots__ = ("_began", "_held", "_tenant", "_turns")

    def __init__(self, turns: Turns, tenant: str) -> None:
        self._turns, self._tenant = turns, tenant
        self._held, self._began = False, time.perf_counter()

    async def __aenter__(self) -> Self:
        await self._take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._held:
            self._pass_on()

    async def give(self) -> None:
        """Let others go on when this call has had its slice; to be called after each small piece of work."""
        used = time.perf_counter() - self._began
        if used < self._turns.slice_seconds:
            return
        others = self._turns.has_others(self._tenant)
        if self._held:
            await asyncio.sleep(used if others else 0)
            self._pass_on()
            await self._take()
            return
        await self._take()  # what was used is not known: some of the time the call may have waited
        try:
            await asyncio.sleep(self._turns.slice_seconds if others else 0)
        finally:
            self._pass_on()
        self._began = time.perf_counter()

    async def in_thread(self, work: Callable[[bytes], Answer], raw: bytes) -> Answer:
        """What `work` makes of the bytes in another thread, while others go on; for work that frees Python's lock."""
        self._pass_on()
        try:
            answer = await asyncio.to_thread(work, raw)
        except Exception:
            await self._take()
            raise
        await self._take()
        return answer

    async def _take(self) -> None:
        await self._turns.take(self._tenant)
        self._held, self._began = True, time.perf_counter()

    def _pass_on(self) -> None:
        self._held = False
        self._turns.pass_on()
