"""The page /health: 200 while this process reads what it was assigned and moves, else 503; with the reason."""

from typing import Any

import orjson
from faststream.asgi import AsgiResponse, get

from shared.read_model.projecting.watch import Watch


class Health:
    """Answers for a watch that comes and goes with the application's resources."""

    def __init__(self) -> None:
        self.watch: Watch | None = None
        self.page = get(self._answer, description="Whether this process reads what it was assigned, and moves.")

    async def _answer(self, scope: dict[str, Any]) -> AsgiResponse:  # noqa: ARG002 - the signature of a page
        sickness = self.watch.sickness if self.watch else "waits for Kafka and Postgres"
        body = {"status": "unavailable", "reason": sickness} if sickness else {"status": "ok"}
        headers = {"content-type": "application/json"}
        return AsgiResponse(orjson.dumps(body), 503 if sickness else 200, headers)
