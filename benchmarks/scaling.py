"""What do more processes bring? `python -m benchmarks.scaling`: projections of one group, gateways on one port.

The same load each time, with generator, Kafka and Postgres on the same cores.
"""

import argparse
import asyncio

from benchmarks.ingest import COLUMNS, NOTES, measure, row
from benchmarks.load import Load
from benchmarks.page import Table
from benchmarks.stack import fresh_stack

CASES = {
    "one projection, one gateway": (),
    "two projections": ("traces",),
    "four projections": ("traces",) * 3,
    "two gateways": ("gateway",),
    "two projections, two gateways": ("traces", "gateway"),
}


async def table(seconds: float) -> Table:
    """All cases, each on a stack of its own."""
    rows = []
    for title, more in CASES.items():
        async with fresh_stack(more=more) as stack:
            rows.append(row(title, await measure(stack, Load(), seconds)))
    return Table(f"More processes, 100 spans an export, {seconds:.0f} s a case", COLUMNS, rows, NOTES)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    print(asyncio.run(table(parser.parse_args().seconds)))


if __name__ == "__main__":
    main()
