"""`python -m services.mock_llm`: serve until asked to stop, then let answers under way finish."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
import uvloop

from services.mock_llm.app import create_app
from shared.runtime.settings import MockLlmSettings
from shared.runtime.telemetry import configure_logging, serve_metrics

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """Obeys SIGTERM and SIGINT as our other processes do: it ends, and with 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        log.info("draining", grace=self.config.timeout_graceful_shutdown)
        self.should_exit = True


async def run(settings: MockLlmSettings) -> bool:
    """Serve; False when the address could not be had, or the rules make no sense."""
    try:
        app = create_app(settings)
    except ValueError as error:
        log.error("the rules can't be used", error=str(error))  # noqa: TRY400 - the file says it all
        return False
    config = uvicorn.Config(
        app,
        settings.host,
        settings.port,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=round(settings.grace_seconds),
    )
    server = _Server(config)
    await server.serve()
    return server.started


def main() -> None:
    """Serve with the environment's settings."""
    configure_logging("mock-llm")
    serve_metrics()
    sys.exit(0 if uvloop.run(run(MockLlmSettings())) else 1)


if __name__ == "__main__":
    main()
