"""Kafka's jars are those of the lock, or none."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.all_in_one.jars import JarError, fetch_jars, read_lock

SMALL = next(jar for jar in read_lock() if jar.artifact == "slf4j-simple")


def ignore(_done: int, _of: int) -> None:
    pass


async def test_a_missing_and_a_damaged_jar_are_fetched_and_a_whole_one_is_not(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    (path,) = await fetch_jars(tmp_path, lambda done, of: told.append((done, of)), [SMALL])
    assert path.stat().st_size > 10_000
    await fetch_jars(tmp_path, lambda done, of: told.append((done, of)), [SMALL])
    assert told == [(1, 1)]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    await fetch_jars(tmp_path, ignore, [SMALL])
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


async def test_other_content_under_the_same_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JarError, match=r"org\.slf4j:slf4j-simple:.*SHA-256 is"):
        await fetch_jars(tmp_path, ignore, [replace(SMALL, sha256="0" * 64)])
    assert not list(tmp_path.iterdir())


async def test_a_jar_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(JarError, match=r"org\.slf4j:slf4j-simple:0\.0\.0 can't be fetched"):
        await fetch_jars(tmp_path, ignore, [replace(SMALL, version="0.0.0")])
