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
    handler.addFilter(Seldom("aiokafka"))
    structlog.contextvars.bind_contextvars(service=service)


class Seldom(logging.Filter):
    """Lets each kind of message of some loggers through once in a while: with Kafka away there are dozens a second."""

    def __init__(self, name: str, *, seconds: float = 10.0) -> None:
        super().__init__(name)
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message may pass; messages are of one kind when their template is the same."""
        if not super().filter(record):
            return True
        now, kind = record.created, f"{record.name} {record.msg}"
        if now - self._last.get(kind, float("-inf")) < self._seconds:
            return False
        self._last[kind] = now
        return True


def serve_metrics() -> int:
    """Show Prometheus metrics on LODESTREAM_METRICS_HOST:LODESTREAM_METRICS_PORT; returns the port taken."""
    settings = MetricsSettings()
    server, _ = start_http_server(settings.metrics_port, settings.metrics_host)
    return int(server.server_port)
