"""Metrics of the evaluator, beside those that every projection has of its fold."""

from prometheus_client import Counter, Gauge, Histogram

WAITING = Gauge("lodestream_evaluator_waiting", "Jobs that wait, over all workers, as last seen; at most 10,000")
UNDER_WAY = Gauge("lodestream_evaluator_under_way", "Items that this process runs")
CALLS = Counter(
    "lodestream_evaluator_calls", "Calls of models, by provider and what came of them", ["provider", "outcome"]
)
CALL_SECONDS = Histogram("lodestream_evaluator_call_seconds", "How long models take to answer", ["provider"])
RETRIES = Counter("lodestream_evaluator_retries", "Items that are tried again later", ["provider"])
ITEMS = Counter("lodestream_evaluator_items", "Results of items that are in the log, by outcome", ["outcome"])
REFUSED = Counter(
    "lodestream_evaluator_refused", "Results refused by the fence: the job is another's, or its run is over"
)
ADOPTED = Counter("lodestream_evaluator_adopted", "Results decided by a worker that died, and published by this one")
RUNS = Counter("lodestream_evaluator_runs", "Runs that were ended, by outcome", ["outcome"])
