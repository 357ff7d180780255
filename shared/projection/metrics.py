"""What every projection tells Prometheus: the whole list."""

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("lodestream_projection_records", "Records folded", ["projection"])
ITEMS = Counter("lodestream_projection_items", "Spans, scores and the like told in the records folded", ["projection"])
DEAD_LETTERS = Counter("lodestream_projection_dead_letters", "Items and records set aside", ["projection"])
PARKED = Counter(
    "lodestream_projection_parked_records",
    "Records parked: their events are of a kind unknown to this version",
    ["projection"],
)
CLEANED = Counter(
    "lodestream_projection_cleaned", "Values changed so that a row can hold them, by kind", ["projection", "kind"]
)
BATCH_SECONDS = Histogram(
    "lodestream_projection_batch_seconds", "One partition's batch, fence to commit", ["projection"]
)
LAG = Gauge("lodestream_projection_lag_records", "Records in the log, not yet folded", ["projection", "partition"])
HALTED = Gauge(
    "lodestream_projection_halted", "1: the partition stopped until somebody decides", ["projection", "partition"]
)
GROUP_AHEAD = Counter(
    "lodestream_projection_group_ahead", "Group offsets found ahead of the fence and ignored", ["projection"]
)
