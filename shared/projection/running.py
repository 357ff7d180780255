"""The process of a projection: its application and its pages, until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import asyncpg
import structlog
import uvicorn
import uvloop
from faststream.asgi import AsgiFastStream

from shared.projection.asyncapi import document
from shared.projection.lag_monitor import gave_up
from shared.projection.waiting import SERVER_ERRORS, growing_pauses
from shared.runtime.garbage import collect_rarely
from shared.runtime.settings import MetricsSettings
from shared.runtime.telemetry import configure_logging

log = structlog.get_logger()


class _Pages(uvicorn.Server):
    """Serves the pages. The application has the signals: it has batches to end first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: AsgiFastStream, errors: tuple[type[Exception], ...] = SERVER_ERRORS) -> int:
    """Serve the pages at once and project as soon as the servers are there; returns the exit code.

    A start that fails with one of `errors` is tried again: a server is away.
    0 after SIGTERM or Ctrl-C, 1 when something else ended it, also when the process has given up.
    """
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    settings = MetricsSettings()
    pages = _Pages(
        uvicorn.Config(
            app, settings.metrics_host, settings.metrics_port, lifespan="off", log_config=None, access_log=False
        )
    )
    serving = asyncio.create_task(pages.serve())
    projecting = asyncio.create_task(_project(app, stop, errors))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, projecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    failed = not stop.is_set() or gave_up.is_set()
    stop.set()
    pages.should_exit = True
    outcomes = await asyncio.gather(serving, projecting, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            log.error("stopped", error=f"{type(outcome).__name__}: {outcome}")
    return int(failed)


async def _project(app: AsgiFastStream, stop: asyncio.Event, errors: tuple[type[Exception], ...]) -> None:
    """The application's whole life; a stop during its start ends the start."""
    started = asyncio.Event()
    life = asyncio.create_task(_live(app, started, stop, errors))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not started.is_set():
        life.cancel()
    with suppress(asyncio.CancelledError):
        await life


async def _live(
    app: AsgiFastStream, started: asyncio.Event, stop: asyncio.Event, errors: tuple[type[Exception], ...]
) -> None:
    """Run the application until `stop`; where a server goes away while it starts, start it again."""
    pauses = growing_pauses()
    while True:
        try:
            async with app.start_lifespan_context():
                started.set()
                log.info("projecting")
                await stop.wait()
        except errors as error:
            if stop.is_set() or isinstance(error, asyncpg.exceptions.ClientConfigurationError):
                raise
            started.clear()
            pause = next(pauses)
            log.warning("waiting", because=f"{type(error).__name__}: {error}", again_in=pause)
            await asyncio.sleep(pause)
        else:
            return


def run(
    name: str,
    create_app: Callable[..., AsgiFastStream],
    *,
    module: str = "",
    does: str = "",
    retry_on: tuple[type[Exception], ...] = (),
) -> None:
    """Log, run, and exit with 1 when something else than a signal ended it. With --asyncapi print what is read.

    `module` and what it `does` are told by a service that folds a topic for its own ends and is no projection.
    `retry_on` are the errors of a further server, besides Postgres and Kafka, with which a start is tried again.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module or f'services.projections.{name}'}",
        description=f"{does or f'Keep the {name} read model'} until SIGTERM or Ctrl-C.",
    )
    parser.add_argument("--asyncapi", action="store_true", help="print the AsyncAPI document of what is read, and end")
    if parser.parse_args().asyncapi:
        sys.stdout.write(document(create_app))
        return
    configure_logging(name if module else f"projection-{name}")
    collect_rarely()
    sys.exit(uvloop.run(serve(create_app(), (*SERVER_ERRORS, *retry_on))))
