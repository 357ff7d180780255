"""Python's cycle collector, told how a service allocates."""

import gc

_ALLOCATIONS = 50_000


def collect_rarely() -> None:
    """Look for cycles every 50,000 allocations instead of 700, and not in what the imports made.

    A batch makes tens of thousands of objects that all live until it is committed, none of them in cycles: walking them
    again and again cost a tenth of the projection's CPU (benchmarks/project.py). Not for gRPC servers: calls end in
    cycles that hold their requests, and the gateway grew from 90 to 385 MB.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, 20, 20)
