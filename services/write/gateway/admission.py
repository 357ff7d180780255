"""Who may come in, and how much at once: the API key's project, its quota, the log's state and the bytes in flight."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.write.gateway import metrics
from services.write.gateway.quota import Quotas
from services.write.gateway.refusal import OverQuotaError
from shared.event_log.append import Appender
from shared.read_model.authentication import Authenticator
from shared.read_model.caller import project_of
from shared.runtime.refusal import Context, UnavailableError
from shared.runtime.settings import GatewaySettings


class Admission:
    """Judges a call before its bytes are read, and its size before they are looked at."""

    def __init__(
        self,
        settings: GatewaySettings,
        keys: Authenticator,
        appender: Appender,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys, self._appender = keys, appender
        self._most, self._held = settings.max_in_flight_bytes, 0
        self._quotas = Quotas(
            bytes_per_second=settings.quota_bytes_per_second,
            spans_per_second=settings.quota_spans_per_second,
            burst_seconds=settings.quota_burst_seconds,
            clock=clock,
        )

    async def project_of(self, context: Context) -> str:
        """The project of the call's API key.

        Raises RefusedError.
        """
        return await project_of(self._keys, context)

    async def admit(self, context: Context) -> str:
        """The project of the call's API key, when a request of its may be read now.

        Raises RefusedError.
        """
        project_id = await self.project_of(context)
        self._check_quota(project_id)
        if reason := self._appender.unavailable:
            raise UnavailableError(reason, retry_seconds=2)
        self._find_room(0)
        return project_id

    @contextmanager
    def hold(self, project_id: str, size: int) -> Iterator[None]:
        """Room for a request of `size` bytes while it is handled.

        Raises UnavailableError when there is none, or the quota is used up.
        """
        self._find_room(size)
        self._check_quota(project_id)  # again: others of the project may have come in while this one was read
        self._quotas.take(project_id, size=size)
        self._held += size
        metrics.REQUEST_BYTES.set(self._held)
        try:
            yield
        finally:
            self._held -= size
            metrics.REQUEST_BYTES.set(self._held)

    def count_spans(self, project_id: str, spans: int) -> None:
        """Charge the project's quota."""
        self._quotas.take(project_id, spans=spans)

    def _check_quota(self, project_id: str) -> None:
        if wait := self._quotas.wait(project_id):
            raise OverQuotaError("the project is over its quota of bytes or spans a second", retry_seconds=wait)

    def _find_room(self, size: int) -> None:
        in_flight = self._held + self._appender.in_flight_bytes
        if in_flight and in_flight + size >= self._most:  # a request larger than all the room gets it when it is alone
            raise UnavailableError(f"the gateway is full: {in_flight} bytes are in flight")
