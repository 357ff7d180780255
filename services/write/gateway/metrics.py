"""What the gateway counts."""

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("lodestream_gateway_calls", "Writes by method and outcome.", ["method", "outcome"])
SPANS = Counter("lodestream_gateway_spans", "Spans by outcome: accepted (the log has them) or refused.", ["outcome"])
APPEND_SECONDS = Histogram("lodestream_gateway_append_seconds", "From append to the log's acknowledgement.")
IN_FLIGHT_BYTES = Gauge("lodestream_gateway_in_flight_bytes", "Bytes of requests under way.")
