"""Spans to be spooled and delivered."""

import os
from collections.abc import Iterator
from pathlib import Path

from lodestream._delivery.pipeline import Pipeline
from lodestream._delivery.spool import Batch, Spool
from lodestream._ids import new_span_id
from lodestream._recording.recorder import Recorder
from lodestream._settings import Settings, parse_endpoint
from lodestream._wire.otlp import request_of, resource_of, scope_of, scope_spans_of, span_of
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sdk.tests.collector import names_of

RESOURCE = resource_of({"service.name": "tests"})


def payload(*names: str, filler: int = 0) -> tuple[bytes, int]:
    """A ResourceSpans of spans of these names, as the writer gives it to the spool."""
    told = {"filler": "x" * filler} if filler else {}
    spans = [span_of(1, new_span_id(), 0, "", 1, name, 1, 1, 2, told, (), (), (0, ""), (0, 0, 0)) for name in names]
    return RESOURCE + scope_spans_of(scope_of("tests", "", {}), spans, ""), len(names)


def names_in(batch: Batch) -> list[str]:
    return names_of(ExportTraceServiceRequest.FromString(request_of(batch.payloads)))


def delivered(spool: Spool, *, own: bool = True) -> Iterator[str]:
    """Take and settle, one batch after the other; gives the spans' names."""
    while batch := spool.take(own=own):
        yield from names_in(batch)
        spool.settle(batch, dropped=0)


def new_spool(root: Path | None, *, max_bytes: int = 1 << 26, memory_max_bytes: int = 1 << 24) -> Spool:
    return Spool(root, max_bytes=max_bytes, memory_max_bytes=memory_max_bytes, fsync="interval")


def segments(root: Path) -> list[Path]:
    """The files that hold something, oldest first; those that others take away meanwhile hold nothing."""
    files = (Path(folder, name) for folder, _, names in os.walk(root) for name in names if name.startswith("seg-"))
    return sorted(file for file in files if size(file))


def size(file: Path) -> int:
    """In bytes; 0 when there is no such file."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


class Told:
    """A pipeline, and what makes spans for it."""

    def __init__(self, address: str, root: Path | None, *, memory_max_bytes: int = 1 << 24, key: str = "sk") -> None:
        settings = Settings(
            endpoint=parse_endpoint(address), secret_key=key, flush_interval=0.02, memory_max_bytes=memory_max_bytes
        )
        self.pipeline = Pipeline(settings, RESOURCE, root)
        self.recorder = Recorder(settings, self.pipeline)

    def tell(self, *names: str) -> None:
        """Spans that end at once, and come to the writer together."""
        with self.pipeline._ring._lock:
            for name in names:
                self.recorder.observe(name, "span", {}).end()
