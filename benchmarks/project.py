"""What a span costs the projection in Python, step by step, without servers: `python -m benchmarks.project`."""

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event, Producer
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded

from benchmarks.page import Table
from benchmarks.workload import exports
from services.projections.traces.batch import FoldedBatch, fold_records
from services.projections.traces.copy_format import copy_data, pack_block, pack_span, pack_trace
from services.projections.traces.summary import summarise
from shared.event_log.codec import LogRecord, read
from shared.event_log.topics import TRACES
from shared.runtime.garbage import collect_rarely
from shared.spans.blocks import compress, open_block, sources_of
from shared.spans.dialects import read_columns


def records(*, spans: int, count: int) -> list[tuple[int, bytes]]:
    """Values of the log and their offsets."""
    received = Timestamp()
    received.GetCurrentTime()
    templates = exports(spans=spans)
    values = []
    for offset in range(count):
        block = compress(templates[offset % len(templates)].fresh(offset.to_bytes(8, "big")))
        event = Event(
            event_id="01890000-0000-7000-8000-000000000000",
            project_id="local",
            occurred_at=received,
            received_at=received,
            producer=Producer(name="opentelemetry-python", version="1.45.0"),
            spans_recorded=SpansRecorded(otlp_request=block, compression=COMPRESSION_ZSTD, span_count=spans),
        )
        values.append((offset, event.SerializeToString()))
    return values


def steps(values: list[tuple[int, bytes]]) -> dict[str, Callable[[], Any]]:
    """Each step with what it needs made before."""
    now = int(time.time() * 1000)
    batch = [read(TRACES, 0, offset, now, raw) for offset, raw in values]
    projected = fold_records(batch)
    sources = [source for record in batch for source in _sources(record)]
    return {
        "read the record, open the block": lambda: [list(_sources(read(TRACES, 0, o, now, raw))) for o, raw in values],
        "hot fields of the dialects": lambda: [read_columns(source) for source in sources],
        "fold_records() (both, and folding)": lambda: fold_records(batch),
        "pack for COPY": lambda: _pack(projected),
        "sum up and pack the traces": lambda: copy_data([pack_trace(row) for row in summarise(projected.spans)]),
    }


def _sources(record: LogRecord) -> Any:
    assert record.event is not None
    recorded = record.event.spans_recorded
    request = open_block(recorded.compression, recorded.otlp_request)
    return sources_of(request, sdk_name="opentelemetry-python", sdk_version="1.45.0")


def _pack(projected: FoldedBatch) -> None:
    copy_data([pack_block(row) for row in projected.blocks])
    copy_data([pack_span(row) for row in projected.spans])


def best_of(step: Callable[[], Any], rounds: int) -> float:
    """CPU seconds of the fastest round: what disturbs only ever adds."""
    took = []
    for _ in range(rounds):
        before = time.process_time()
        step()
        took.append(time.process_time() - before)
    return min(took)


def table(values: list[tuple[int, bytes]], *, rounds: int) -> Table:
    """µs a span for each step."""
    collect_rarely()
    spans = sum(Event.FromString(raw).spans_recorded.span_count for _, raw in values)
    rows = [[name, f"{1e6 * best_of(step, rounds) / spans:.1f}"] for name, step in steps(values).items()]
    return Table("What a span costs the projection in Python, without servers", ["Step", "CPU µs a span"], rows)


def profile(values: list[tuple[int, bytes]]) -> None:
    """Print where fold_records() spends its time."""
    fold = steps(values)["fold_records() (both, and folding)"]
    with cProfile.Profile() as profiler:
        fold()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Print µs a span for each step; with --profile, where fold_records() spends them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.project", description=main.__doc__)
    parser.add_argument("--spans-per-record", type=int, default=100)
    parser.add_argument("--records", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    values = records(spans=options.spans_per_record, count=options.records)
    print(table(values, rounds=options.rounds))
    if options.profile:
        profile(values)


if __name__ == "__main__":
    main()
