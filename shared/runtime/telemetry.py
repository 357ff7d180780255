"""Logs and metrics of a process. Logs never hold payloads or keys."""

import logging
import sys

import structlog
from prometheus_client import start_http_server

from shared.runtime.settings import LogSettings, MetricsSettings


def configure_logging(service: str) -> None:
    """One line an event on standard error: for people on a terminal, JSON elsewhere, LODESTREAM_LOG_FORMAT decides."""
    settings = LogSettings()
    as_json = settings.log_format == "json" if settings.log_format else not sys.stderr.isatty()
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level, force=True)
    # aiokafka repeats what it retries; what it can't mend reaches us as an exception.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    structlog.contextvars.bind_contextvars(service=service)


def serve_metrics() -> int:
    """Show Prometheus metrics on LODESTREAM_METRICS_HOST:LODESTREAM_METRICS_PORT; returns the port taken."""
    settings = MetricsSettings()
    server, _ = start_http_server(settings.metrics_port, settings.metrics_host)
    return int(server.server_port)
