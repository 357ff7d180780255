"""What the prompts projection tells Prometheus beside what all projections tell."""

from prometheus_client import Counter, Gauge

OFFERED = Counter("lodestream_prompt_cache_offers", "Heads offered to Redis, by what became of them", ["outcome"])
WAITING = Gauge("lodestream_prompt_outbox", "Prompts that Redis has not been told of, as last seen")
