"""A disk that fails costs durability, not spans; and it is used again when it can be."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lodestream._delivery.segment import find_frames
from lodestream._delivery.spool import Spool

from sdk.tests.telling import delivered, new_spool, payload, segments


@contextmanager
def full_disk(at: int) -> Iterator[None]:
    """Files can't become larger: the write that would do it is cut short, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def tell(spool: Spool, *numbers: int, filler: int = 1000) -> list[str]:
    names = [str(number) for number in numbers]
    for name in names:
        spool.append([payload(name, filler=filler)])
    return names


def test_a_full_disk_is_used_again_when_there_is_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = new_spool(tmp_path)
    with full_disk(10_000):
        names = tell(spool, *range(20))
        assert not spool.on_disk
        (file,) = segments(tmp_path)
        kept = find_frames(file.read_bytes())
        assert (len(kept.payloads), kept.bad, kept.torn) == (8, [], 0)
        spool.retry_disk()
        names += tell(spool, 20, filler=20_000)
    spool.retry_disk()
    names += tell(spool, *range(21, 30))
    assert len(segments(tmp_path)) == 2
    assert spool.pending == 30
    assert list(delivered(spool)) == names
    assert spool.on_disk
    assert caplog.text.count("kept in memory only") == 1
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_trying_a_full_disk_again_and_again_leaves_nothing_behind(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    with full_disk(100):
        for number in range(50):
            spool.retry_disk()
            tell(spool, number)
        assert len(list(tmp_path.rglob("seg-*"))) <= 1
    assert len(list(delivered(spool))) == 50
    assert len(spool._own) <= 2
    spool.close()


def test_a_place_that_can_not_be_written_to_costs_durability_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    spool = new_spool(tmp_path / "file" / "spool")
    spool.adopt()
    names = tell(spool, *range(5))
    assert not spool.on_disk
    assert list(delivered(spool)) == names
    spool.retry_disk()
    assert tell(spool, 6) == list(delivered(spool))
    spool.close()


def test_a_place_that_comes_into_being_is_used(tmp_path: Path) -> None:
    place = tmp_path / "spool"
    place.touch()
    spool = new_spool(place)
    names = tell(spool, 1)
    place.unlink()
    spool.retry_disk()
    names += tell(spool, 2)
    assert len(segments(place)) == 1
    assert list(delivered(spool)) == names
    spool.close()


def test_a_folder_that_is_deleted_under_us_is_made_anew(tmp_path: Path) -> None:
    spool = new_spool(tmp_path / "spool")
    names = tell(spool, 1, 2)
    shutil.rmtree(tmp_path / "spool")
    names += tell(spool, 3)
    spool.sync()
    names += tell(spool, 4)
    assert not spool.on_disk
    spool.retry_disk()
    names += tell(spool, 5)
    assert len(segments(tmp_path)) == 1
    assert list(delivered(spool)) == names
    spool.close()


def test_segments_that_are_deleted_under_us_are_lost_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = new_spool(tmp_path)
    tell(spool, *range(3), filler=3 << 20)
    first, *_ = segments(tmp_path)
    first.unlink()
    seen = list(delivered(spool))
    assert spool.counts.dropped + len(seen) == 3
    assert spool.counts.dropped == 2
    assert "can't be read" in caplog.text
    spool.close()


def test_a_path_that_is_none_costs_durability_only(tmp_path: Path) -> None:
    spool = new_spool(tmp_path / ("x" * 300))
    names = tell(spool, 1, 2)
    assert not spool.on_disk
    assert list(delivered(spool)) == names
    spool.close()
