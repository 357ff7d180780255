"""The spool keeps what is not delivered, in order and within its bounds, also for the next process."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lodestream._delivery.segment import HEADER_BYTES, FileStorage
from lodestream._delivery.spool import BATCH_BYTES, BATCH_SPANS, Spool
from lodestream._settings import Fsync
from lodestream._wire.payloads import EVENT

from sdk.tests.telling import delivered, names_in, new_spool, payload, segments

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = new_spool(tmp_path)
    yield made
    made.close()


def left_by(root: Path, *names: str, filler: int = 0) -> Path:
    """The one segment that a process leaves that ended before it could deliver."""
    before = set(segments(root))
    spool = new_spool(root)
    for name in names:
        spool.append([payload(name, filler=filler)])
    spool.close()
    (segment,) = set(segments(root)) - before
    return segment


def adopted(root: Path) -> tuple[list[str], Spool]:
    """What the next process delivers of it."""
    spool = new_spool(root)
    spool.adopt()
    names = list(delivered(spool, own=False))
    spool.close()
    return names, spool


# --- What is kept -----------------------------------------------------------------------------------------------------


def test_it_stays_in_order_until_it_is_settled(spool: Spool) -> None:
    spool.append([payload("a"), payload("b", "c")])
    spool.append([payload("d")])
    for _ in range(2):
        batch = spool.take(own=True)
        assert batch is not None
        assert names_in(batch) == ["a", "b", "c", "d"]
        spool.release(batch)
    assert batch is not None
    assert (spool.pending, spool.on_disk) == (4, True)
    spool.settle(batch, dropped=1)
    assert (spool.pending, spool.counts.delivered, spool.counts.dropped) == (0, 3, 1)
    assert spool.take(own=True) is None


def test_batches_are_bounded_but_for_a_single_large_frame(spool: Spool) -> None:
    spool.append([payload(*["n"] * 64) for _ in range(20)])
    spool.append([payload("large", filler=3 * MIB), payload("next")])
    sizes = []
    while batch := spool.take(own=True):
        size = sum(map(len, batch.payloads))
        assert len(batch.frames) == 1 or (batch.spans <= BATCH_SPANS and size <= BATCH_BYTES)
        sizes.append(batch.spans)
        spool.settle(batch, dropped=0)
    assert sizes == [448, 448, 384, 1, 1]


def test_a_segment_goes_when_all_in_it_is_settled(tmp_path: Path, spool: Spool) -> None:
    for number in range(40):
        spool.append([payload(str(number), filler=256 * KIB)])
    files = segments(tmp_path)
    assert len(files) == 3
    assert all(file.stat().st_size < 4 * MIB + 300 * KIB for file in files)
    seen: list[str] = []
    while batch := spool.take(own=True):
        seen += names_in(batch)
        still = [int(file.stem.removeprefix("seg-")) for file in segments(tmp_path)]
        assert still == [1, 2, 3][3 - len(still) :]
        assert batch.segment.spans > 0
        spool.settle(batch, dropped=0)
    assert seen == [str(number) for number in range(40)]
    assert segments(tmp_path) == []


def test_a_spool_that_keeps_up_does_not_grow(tmp_path: Path, spool: Spool) -> None:
    for number in range(300):
        spool.append([payload(str(number), filler=64 * KIB)])
        assert list(delivered(spool)) == [str(number)]
    assert len(list(tmp_path.rglob("seg-*"))) == 1
    assert segments(tmp_path) == []


@pytest.mark.parametrize("on_disk", [True, False])
def test_at_the_bound_the_oldest_segment_goes_and_is_counted(tmp_path: Path, on_disk: bool) -> None:
    spool = new_spool(tmp_path if on_disk else None, max_bytes=MIB, memory_max_bytes=MIB)
    for number in range(100):
        spool.append([payload(str(number), filler=32 * KIB)])
        assert sum(file.stat().st_size for file in segments(tmp_path)) < 1.1 * MIB
    dropped = spool.counts.dropped
    assert 60 < dropped < 80
    assert spool.pending == 100 - dropped
    assert list(delivered(spool)) == [str(number) for number in range(dropped, 100)]
    spool.close()


def test_what_is_under_way_is_not_dropped_at_the_bound(tmp_path: Path) -> None:
    spool = new_spool(tmp_path, max_bytes=MIB)
    spool.append([payload("first", filler=32 * KIB)])
    batch = spool.take(own=True)
    assert batch is not None
    for number in range(100):
        spool.append([payload(str(number), filler=32 * KIB)])
    spool.settle(batch, dropped=0)
    assert (spool.counts.delivered, spool.counts.delivered + spool.counts.dropped + spool.pending) == (1, 101)
    spool.close()


@pytest.mark.parametrize(
    ("fsync", "of_appends", "of_sync", "of_rotation"), [("always", 3, 0, 2), ("interval", 0, 1, 2), ("never", 0, 0, 0)]
)
def test_when_the_disk_is_waited_for(  # noqa: PLR0917
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Fsync, of_appends: int, of_sync: int, of_rotation: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    spool = Spool(tmp_path, max_bytes=4 * MIB, memory_max_bytes=MIB, fsync=fsync)

    def waits() -> int:
        seen = len(calls)
        calls.clear()
        return seen

    for name in "abc":
        spool.append([payload(name)])
    assert waits() == of_appends
    spool.sync()
    spool.sync()
    assert waits() == of_sync
    spool.append([payload("d", filler=2 * MIB)])
    waits()
    spool.append([payload("e")])
    assert waits() == of_rotation + (fsync == "always")
    spool.close()


def test_without_descriptors_nothing_is_lost(tmp_path: Path, spool: Spool) -> None:
    for number in range(40):
        spool.append([payload(str(number), filler=256 * KIB)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            spool.take(own=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(delivered(spool)) == [str(number) for number in range(40)]


def test_what_is_only_in_memory_at_the_end_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    spool = new_spool(None)
    spool.append([payload("a", "b")])
    assert not spool.on_disk
    spool.close()
    assert spool.counts.dropped == 2
    assert "2 observations or scores were dropped: they were only in memory" in caplog.text


# --- What the next process finds --------------------------------------------------------------------------------------


def test_it_finds_all_of_it_once(tmp_path: Path) -> None:
    left_by(tmp_path, "a", "b")
    left_by(tmp_path, "c")
    names, spool = adopted(tmp_path)
    assert sorted(names) == ["a", "b", "c"]
    assert (spool.counts.adopted, spool.counts.delivered) == (3, 0)
    assert list(tmp_path.iterdir()) == []
    assert adopted(tmp_path)[0] == []


def test_what_it_does_not_settle_is_left_to_the_one_after(tmp_path: Path) -> None:
    left_by(tmp_path, "a", "b")
    spool = new_spool(tmp_path)
    spool.adopt()
    assert spool.take(own=False) is not None
    spool.close()
    assert adopted(tmp_path)[0] == ["a", "b"]


@given(st.data())
@settings(deadline=None)
def test_a_torn_tail_costs_only_itself(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("spool")
    names = [str(number) for number in range(5)]
    segment = left_by(root, *names)
    size = segment.stat().st_size
    cut = data.draw(st.integers(0, size))
    os.truncate(segment, cut)
    found, spool = adopted(root)
    assert found == names[: cut * 5 // size]
    assert spool.counts.bad_frames == 0
    assert list(root.iterdir()) == []


@given(st.data(), st.integers(1, 255))
@settings(deadline=None)
def test_a_changed_byte_costs_only_its_frame(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, change: int
) -> None:
    root = tmp_path_factory.mktemp("spool")
    names = [str(number) for number in range(5)]
    segment = left_by(root, *names)
    whole = bytearray(segment.read_bytes())
    frame = len(whole) // 5
    at = data.draw(st.integers(0, 4 * frame - 1))
    whole[at] ^= change
    segment.write_bytes(whole)
    found, spool = adopted(root)
    assert found == [name for number, name in enumerate(names) if number != at // frame]
    assert spool.counts.bad_frames == 1
    (kept,) = root.iterdir()
    assert kept.suffix == ".bad"
    assert kept.read_bytes() == whole[at // frame * frame :][:frame]


def test_a_frame_that_is_whole_but_no_span_is_kept_apart(tmp_path: Path) -> None:
    segment = left_by(tmp_path, "a")
    foreign = new_spool(tmp_path / "elsewhere")
    foreign.append([(b"\xff\xff no span", 1)])
    foreign.close()
    (its,) = segments(tmp_path / "elsewhere")
    with segment.open("ab") as file:
        file.write(its.read_bytes())
    names, spool = adopted(tmp_path)
    assert (names, spool.counts.bad_frames) == (["a"], 1)


def test_of_a_file_that_became_shorter_nothing_is_read(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "segment")
    storage.append(b"0123456789", 0)
    assert storage.read(2, 10) == b"23456789"
    os.truncate(storage.path, 9)
    with pytest.raises(OSError, match="segment is shorter than what was written to it"):
        storage.read(2, 10)
    storage.close()


def test_a_segment_that_became_shorter_is_lost_whole_and_not_sent_in_part(
    tmp_path: Path, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    spool.append([payload("a"), payload("b")])
    (segment,) = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size - 1)
    assert spool.take(own=True) is None
    assert "is shorter than what was written to it" in caplog.text


def test_an_event_that_another_process_left_counts_once(tmp_path: Path) -> None:
    event = EVENT + b"its content"
    before = new_spool(tmp_path)
    before.append([(event, 1), payload("a", "b")])
    before.close()
    spool = new_spool(tmp_path)
    spool.adopt()
    taken = []
    while (batch := spool.take(own=False)) is not None:
        taken.append(batch)
        spool.settle(batch, dropped=0)
    assert [frame.event for each in taken for frame in each.frames] == [True, False]
    assert sum(each.spans for each in taken) == 3
    spool.close()


def test_what_is_handed_over_is_there_for_others_at_once(tmp_path: Path) -> None:
    left_by(tmp_path, "stranded")
    spool = new_spool(tmp_path)
    spool.append([payload("own")])
    spool.adopt()
    assert adopted(tmp_path)[0] == []
    spool.hand_over()
    names, _ = adopted(tmp_path)
    assert sorted(names) == ["own", "stranded"]
    spool.close()


def test_what_is_kept_of_damage_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lodestream._delivery.spool_dir._MAX_BAD_BYTES", 3 * KIB)
    for _ in range(10):
        segment = left_by(tmp_path, "a", "b", filler=KIB)
        whole = bytearray(segment.read_bytes())
        whole[HEADER_BYTES] ^= 1
        segment.write_bytes(whole)
        assert adopted(tmp_path)[0] == ["b"]
    assert KIB < sum(path.stat().st_size for path in tmp_path.glob("*.bad")) < 3 * KIB


def test_what_others_left_counts_for_the_bound(tmp_path: Path) -> None:
    for number in range(5):
        left_by(tmp_path, str(number), filler=300 * KIB)
    spool = new_spool(tmp_path, max_bytes=MIB)
    spool.adopt()
    assert spool.counts.adopted_dropped == 2
    assert len(list(delivered(spool, own=False))) == 3
    spool.close()
