"""What a projection opens at once is bounded, whatever records hold; what is beyond is a dead letter with a reason."""

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD

from services.projections.traces.batch import fold_records
from shared.event_log.codec import LogRecord, read
from shared.event_log.topics import TRACES
from shared.projection.projector import in_parts
from shared.runtime.settings import MIB, ProjectionSettings
from shared.spans.blocks import MAX_OPENED_BYTES, UnreadableBlockError, open_block, opened_size
from tests.support.records import event, record, span


def of_block(block: bytes, *, spans: int = 1, says: int = 0, offset: int = 0) -> LogRecord:
    """A record as nobody's gateway may have written it."""
    its = event([span(1, 1)])
    its.spans_recorded.otlp_request, its.spans_recorded.span_count = block, spans
    its.spans_recorded.opened_bytes = says
    return read(TRACES, 0, offset, 0, its.SerializeToString())


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=30))
def test_a_run_is_folded_in_parts_of_bounded_bytes_and_items(shapes: list[tuple[int, int]]) -> None:
    blocks = {size: zstandard.compress(bytes(size)) for size, _ in shapes}
    run = [of_block(blocks[size], spans=spans, offset=n) for n, (size, spans) in enumerate(shapes)]
    settings = ProjectionSettings(batch_bytes=60, batch_items=12)
    parts = list(in_parts(run, settings, items=lambda each: each.spans_recorded.span_count))
    assert [each for part in parts for each in part] == run
    for part in parts:
        assert len(part) == 1 or sum(map(opened_size, part)) <= 60
        assert len(part) == 1 or sum(shapes[each.offset][1] for each in part) <= 12


def test_a_record_is_as_large_as_its_block_says_whatever_it_says_itself() -> None:
    told, unsaid = zstandard.compress(bytes(5 * MIB)), zstandard.ZstdCompressor(write_content_size=False).compress(b"x")
    assert opened_size(of_block(told)) == opened_size(of_block(told, says=7)) == 5 * MIB
    assert opened_size(of_block(told, says=6 * MIB)) == 6 * MIB
    assert opened_size(of_block(unsaid, says=7)) == 7
    assert opened_size(of_block(unsaid)) == MAX_OPENED_BYTES, "so it is opened alone"
    assert opened_size(of_block(b"no zstd")) < 1000


def length_delimited(number: int, raw: bytes) -> bytes:
    size, head = len(raw), bytearray([number << 3 | 2])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size]) + raw


@pytest.mark.parametrize(
    ("request_bytes", "reason"),
    [
        (bytes(MAX_OPENED_BYTES + 1), "otlp_request has more than 67108864 bytes when decompressed"),
        (length_delimited(1, length_delimited(2, b"\x12\x00" * 3_000_000)), "more than 2000000 messages"),
        (length_delimited(1, length_delimited(2, b"\x12\x00" * 150_000)), "holds 150000 spans; at most 100000"),
    ],
)
def test_a_record_that_would_fill_the_memory_is_set_aside_whole(request_bytes: bytes, reason: str) -> None:
    monster = of_block(zstandard.compress(request_bytes), offset=1)
    projected = fold_records([record([span(1, 1)], offset=0), monster, record([span(1, 2)], offset=2)])
    (letter,) = projected.dead_letters
    assert reason in letter.reason
    assert (letter.offset, letter.raw) == (1, monster.raw)
    assert len(projected.spans) == 2
    with pytest.raises(UnreadableBlockError):
        open_block(COMPRESSION_ZSTD, zstandard.compress(request_bytes))
