"""All measurements of the server, one after the other, each on a stack of its own: `make bench`."""

import argparse
import asyncio

from benchmarks import project, prompts, scores, visible
from benchmarks.ingest import measure, show
from benchmarks.load import Load
from benchmarks.stack import fresh_stack

CASES = {
    "100 spans an export": Load(),
    "5 spans an export": Load(spans_per_export=5, clients=32),
    "5 spans an export, 200 clients": Load(spans_per_export=5, clients=200),
    "30 % sent again": Load(duplicates=0.3),
    "1 MB of payload a span": Load(spans_per_export=1, clients=8, payload_bytes=1_000_000, room=100),
}


async def ingest(seconds: float) -> None:
    """Print each case as it ends."""
    for title, load in CASES.items():
        async with fresh_stack() as stack:
            print(show(title, await measure(stack, load, seconds)), flush=True)


def main() -> None:
    """Run all; some eleven minutes with the default of 60 s a case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    project.show(project.records(spans=100, count=40), rounds=9)
    asyncio.run(ingest(options.seconds))
    asyncio.run(visible.show(spans_per_second=1_000, spans_per_export=100, seconds=options.seconds / 2))
    asyncio.run(prompts.show(options.seconds / 6))
    for per_request in (100, 1):
        asyncio.run(scores.show(scores=int(1_000 * options.seconds), per_request=per_request, clients=8))


if __name__ == "__main__":
    main()
