"""How many spans a second go from OTLP to Postgres, and what that costs: `python -m benchmarks.ingest`.

A stack of its own for each case: one gateway and one projection; generator, Kafka and Postgres on the same cores.
"""

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass

from benchmarks.load import Generator, Load, Sent, generating
from benchmarks.page import Table
from benchmarks.processes import Used, memory, used
from benchmarks.stack import Stack, fresh_stack, until_visible

_WARM_UP_SECONDS = 5
_LOOK_SECONDS = 0.2
_PAID = ("gateway", "Kafka", "projection", "Postgres")
"""Whose CPU the target counts."""
CASES = {
    "100 spans an export": Load(),
    "5 spans an export": Load(spans_per_export=5, clients=32),
    "5 spans an export, 200 clients": Load(spans_per_export=5, clients=200),
    "30 % sent again": Load(duplicates=0.3),
    "1 MB of payload a span": Load(spans_per_export=1, clients=8, payload_bytes=1_000_000, room=100),
}
COLUMNS = (
    "Case", "Visible spans/s", *(f"{role} µs" for role in _PAID), "Together µs", "Generator µs", "Ack p50/p99 ms",
    "Behind p50/most", "Spans a record", "Memory MB", "Others", "Limit",
)  # fmt: skip
NOTES = (
    "µs: of CPU, for each span that became visible. Behind: spans acknowledged and not visible yet. Others: what other"
    " work took of the machine meanwhile. Memory: gateway, Kafka, projection, Postgres. After each case every span was"
    " there exactly once, else the run ends with an error."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run came to. Rates are spans a second, CPU is µs a span, times are milliseconds, memory MB."""

    acked_per_second: float
    visible_per_second: float
    cpu: dict[str, float]
    cpu_paid: float
    ack_p50: float
    ack_p99: float
    behind_p50: int
    """Spans acknowledged and not visible yet."""
    behind_most: int
    records: int
    spans_per_record: float
    machine_busy: float
    others_busy: float
    """Shares of all cores."""
    refused: int
    missing: int
    """Spans acknowledged that Postgres does not have when all has been read: must be 0."""
    surplus: int
    memory: dict[str, int]
    limit: str


async def measure(stack: Stack, load: Load, seconds: float) -> Result:
    """One run: warm up, measure, let everything arrive, and count."""
    with generating(load, address=stack.endpoint, secret_key=stack.secret_key) as generator:
        pids = {**stack.pids, "generator": [generator.pid]}
        await _watch(stack, generator, _WARM_UP_SECONDS)
        generator.restart_clock()
        acked, visible = generator.acked, await stack.visible()
        begin, before = time.perf_counter(), used(pids)
        behind = await _watch(stack, generator, seconds)
        took, spent = time.perf_counter() - begin, used(pids).since(before)
        acked_meanwhile, visible_meanwhile = generator.acked - acked, await stack.visible() - visible
        megabytes = {role: size // 1_000_000 for role, size in memory(stack.pids).items()}
        sent = await generator.stop()
    await until_visible(stack, sent.acked, deadline=120)
    async with stack.database() as connection:
        stored = await connection.fetchval("SELECT count(*) FROM spans")
        records = await connection.fetchval("SELECT count(*) FROM span_blocks")
    cpu = {role: 1e6 * used_ / max(visible_meanwhile, 1) for role, used_ in spent.by_role.items()}
    ours = sum(spent.by_role.values()) / spent.total
    return Result(
        acked_per_second=acked_meanwhile / took,
        visible_per_second=visible_meanwhile / took,
        cpu=cpu,
        cpu_paid=sum(cpu[role] for role in _PAID),
        ack_p50=_quantile(sent, 50),
        ack_p99=_quantile(sent, 99),
        behind_p50=int(statistics.median(behind)),
        behind_most=max(behind),
        records=records,
        spans_per_record=sent.acked / max(records, 1),
        machine_busy=spent.busy / spent.total,
        others_busy=max(0.0, spent.busy / spent.total - ours),
        refused=sent.refused,
        missing=max(0, sent.distinct - stored),
        surplus=max(0, stored - sent.distinct),
        memory=megabytes,
        limit=_limit(spent, took, load, behind),
    )


async def _watch(stack: Stack, generator: Generator, seconds: float) -> list[int]:
    """Tell the generator what is visible, and note how far that is behind."""
    behind, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        visible = await stack.visible()
        generator.saw(visible)
        behind.append(generator.acked - visible)
        await asyncio.sleep(_LOOK_SECONDS)
    return behind


def _quantile(sent: Sent, percent: int) -> float:
    return 1e3 * statistics.quantiles(sent.ack_seconds, n=100)[percent - 1] if len(sent.ack_seconds) > 1 else 0.0


def _limit(spent: Used, took: float, load: Load, behind: list[int]) -> str:
    """What kept it from going faster."""
    if load.spans_per_second:
        return "the rate asked for"
    role, seconds = max(spent.by_role.items(), key=lambda each: each[1])
    if role not in {"Kafka", "Postgres"} and seconds / took > 0.9:  # these two have many threads or processes
        return f"{role}: {seconds / took:.0%} of a core"
    if spent.busy / spent.total > 0.9:
        return f"the machine: {spent.busy / spent.total:.0%} busy, {role} most ({seconds / took:.0%} of a core)"
    where = "what waits for the projection" if statistics.median(behind) > 0.5 * load.room else "answers"
    return f"latency: the clients wait for {where}; {role} uses most ({seconds / took:.0%} of a core)"


def row(title: str, result: Result) -> list[str]:
    """A run as a row of a table with COLUMNS."""
    return [
        title,
        f"{result.visible_per_second:,.0f}",
        *(f"{result.cpu[role]:.1f}" for role in _PAID),
        f"{result.cpu_paid:.1f}",
        f"{result.cpu['generator']:.1f}",
        f"{result.ack_p50:.0f}/{result.ack_p99:.0f}",
        f"{result.behind_p50:,}/{result.behind_most:,}",
        f"{result.spans_per_record:.0f}",
        f"{sum(result.memory.values()):,}",
        f"{result.others_busy:.0%}",
        result.limit,
    ]


async def table(seconds: float) -> Table:
    """All cases, each on a stack of its own.

    Raises SystemExit when a span is missing, or there too often.
    """
    rows = []
    for title, load in CASES.items():
        async with fresh_stack() as stack:
            result = await measure(stack, load, seconds)
        if result.missing or result.surplus:
            raise SystemExit(f"{title}: {result.missing} spans are missing, {result.surplus} too many")
        rows.append(row(title, result))
    return Table(
        f"OTLP to Postgres, {seconds:.0f} s a case after {_WARM_UP_SECONDS} s of warming up", COLUMNS, rows, NOTES
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--spans-per-export", type=int, default=100)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--duplicates", type=float, default=0.0, help="share of requests that are sent again, 0 … 1")
    parser.add_argument("--payload-bytes", type=int, help="size of every span's input")
    parser.add_argument("--rate", type=float, help="spans a second; default: as many as are kept up with")
    parser.add_argument("--room", type=int, default=150_000, help="spans that may be acknowledged and not yet visible")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> None:
    load = Load(
        spans_per_export=options.spans_per_export,
        clients=options.clients,
        duplicates=options.duplicates,
        payload_bytes=options.payload_bytes,
        spans_per_second=options.rate,
        room=options.room,
    )
    async with fresh_stack() as stack:
        result = await measure(stack, load, options.seconds)
    if options.json:
        print(json.dumps({**asdict(load), "seconds": options.seconds, **asdict(result)}))
    else:
        title = f"{load.spans_per_export} spans an export, {load.clients} clients"
        print(Table(f"{options.seconds:.0f} s", COLUMNS, [row(title, result)], NOTES))


if __name__ == "__main__":
    asyncio.run(_run(_options()))
