"""The page /health: 200 while this process reads what it was assigned and moves, else 503; with the reason."""

from typing import Any

import orjson
from faststream.asgi import AsgiResponse, get

from shared.projection.lag_monitor import LagMonitor


class Health:
    """Answers for a watch that comes and goes with the application's resources."""

    def __init__(self) -> None:
        self.watch: LagMonitor | None = None
        self.page = get(self._answer, description="Whether this process reads what it was assigned, and moves.")

    async def _answer(self, scope: dict[str, Any]) -> AsgiResponse:  # noqa: ARG002 - the signature of a page
        unhealthy_reason = self.watch.unhealthy_reason if self.watch else "waits for Kafka and Postgres"
        body = {"status": "unavailable", "reason": unhealthy_reason} if unhealthy_reason else {"status": "ok"}
        headers = {"content-type": "application/json"}
        return AsgiResponse(orjson.dumps(body), 503 if unhealthy_reason else 200, headers)
