"""Python's cycle collector, told how a service allocates."""

import gc

_ALLOCATIONS = 50_000


def freeze_start() -> None:
    """Keep what a process has made until it serves out of every collection to come.

    A full collection walks all objects that live, and nothing else runs meanwhile. Most of them are what the imports
    have made: the gateway stood still for 50 ms on a quiet machine, and 180 ms on a busy one, twice a minute.
    """
    gc.collect()
    gc.freeze()


def collect_rarely() -> None:
    """Look for cycles every 50,000 allocations instead of 700, and not in what the imports made.

    A batch makes tens of thousands of objects that all live until it is committed, none of them in cycles: walking them
    again and again cost a tenth of the projection's CPU (benchmarks/project.py). Not for gRPC servers: calls end in
    cycles that hold their requests, and the gateway grew from 90 to 385 MB.
    """
    freeze_start()
    gc.set_threshold(_ALLOCATIONS, 20, 20)
