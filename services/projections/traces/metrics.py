"""What the traces projection tells Prometheus beside what all projections tell."""

from prometheus_client import Counter

SLOW_PATHS = Counter(
    "lodestream_projection_slow_paths", "Batches (or parts of a refused one) merged with what is stored", ["projection"]
)
