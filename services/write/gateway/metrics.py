"""All metrics of the gateway."""

from prometheus_client import Counter, Gauge, Histogram

from shared.event_log.append import Appender

SPANS = Counter("lodestream_gateway_spans", "Spans: accepted (the log has them) or refused one by one", ["outcome"])
EVENTS = Counter(
    "lodestream_gateway_events", "Events of one record each, scores above all, by kind and outcome", ["kind", "outcome"]
)
PACED_CALLS = Counter(
    "lodestream_gateway_paced_calls", "Calls beyond their project's fair rate: waited or refused", ["outcome"]
)
for _outcome in ("waited", "refused"):
    PACED_CALLS.labels(_outcome)
APPEND_SECONDS = Histogram("lodestream_gateway_append_seconds", "From append to the log's acknowledgement")
REQUEST_BYTES = Gauge("lodestream_gateway_request_bytes", "Bytes of requests being handled")
PROMPT_READS = Counter(
    "lodestream_gateway_prompt_reads", "Prompts by where they were found: memory, redis, query or stale", ["found"]
)
READ_FROM_MEMORY, *_ = (PROMPT_READS.labels(found) for found in ("memory", "redis", "query", "stale"))
PROMPT_WATCHERS = Gauge("lodestream_gateway_prompt_watchers", "Open streams of WatchPrompts")
PROMPT_CHANGES = Counter("lodestream_gateway_prompt_changes", "Responses with changes sent to watching clients")
REDIS_AWAY = Gauge("lodestream_gateway_redis_unavailable", "1: Redis has failed and is left alone for some seconds")
_APPEND_BYTES = Gauge("lodestream_gateway_append_bytes", "Bytes of records not acknowledged yet")
_APPEND_AGE = Gauge("lodestream_gateway_oldest_append_seconds", "Age of the oldest record not acknowledged yet")
_LOG_AWAY = Gauge("lodestream_gateway_log_unavailable", "1: writes are refused, the log does not take them")
_REPLACED = Gauge("lodestream_gateway_producers_replaced", "Producers replaced since the start")


def watch(appender: Appender) -> None:
    """Export the state of the one appender of this process."""
    _APPEND_BYTES.set_function(lambda: appender.in_flight_bytes)
    _APPEND_AGE.set_function(lambda: appender.oldest_seconds)
    _LOG_AWAY.set_function(lambda: appender.unavailable is not None)
    _REPLACED.set_function(lambda: appender.replaced)
