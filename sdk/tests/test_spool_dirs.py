"""A folder belongs to one living process; what a dead one leaves goes to exactly one other."""

import errno
import fcntl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from lodestream._delivery.spool_dir import SpoolDir, adopt_dirs, create_dir, find_orphans

ADOPT = """
import sys
from pathlib import Path
from lodestream._delivery.spool_dir import adopt_dirs
print("ready", flush=True)
sys.stdin.readline()
folders = list(adopt_dirs(Path(sys.argv[1])))
print(*(folder.path.name for folder in folders), flush=True)
sys.stdin.readline()
"""


def orphaned(root: Path) -> str:
    folder = create_dir(root)
    folder.segment(1).write_bytes(b"x")
    folder.leave()
    return folder.path.name


def adopting(root: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", ADOPT, str(root)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_each_orphan_goes_to_one_process_only(tmp_path: Path) -> None:
    names = sorted(orphaned(tmp_path) for _ in range(50))
    processes = [adopting(tmp_path) for _ in range(4)]
    assert [line(process) for process in processes] == ["ready"] * 4
    for process in processes:
        go_on(process)
    got = [name for process in processes for name in line(process).split()]
    for process in processes:
        process.communicate("\n")
    assert sorted(got) == names


def test_when_the_one_who_got_it_is_killed_it_is_there_again(tmp_path: Path) -> None:
    name = orphaned(tmp_path)
    process = adopting(tmp_path)
    assert line(process) == "ready"
    go_on(process)
    assert line(process) == name
    assert list(adopt_dirs(tmp_path)) == []
    process.kill()
    process.communicate()
    (folder,) = adopt_dirs(tmp_path)
    assert folder.path.name == name
    folder.leave()


def test_a_living_process_s_folder_is_its_own(tmp_path: Path) -> None:
    folder = create_dir(tmp_path)
    assert list(adopt_dirs(tmp_path)) == []
    folder.leave()
    (again,) = adopt_dirs(tmp_path)
    assert again.path == folder.path
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_others_can_not_read_what_was_asked_and_answered(tmp_path: Path) -> None:
    folder = create_dir(tmp_path / "spool")
    for path, mode in ((tmp_path / "spool", 0o700), (folder.path, 0o700), (folder.path / "lock", 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
    folder.remove()


def test_a_folder_with_segments_is_not_removed(tmp_path: Path) -> None:
    folder = create_dir(tmp_path)
    folder.segment(1).touch()
    folder.remove()
    assert folder.segments()


def test_a_disk_without_locks_is_not_littered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match="No locks available"):
        create_dir(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_none_of_ours_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file.bad").write_bytes(b"x")
    (tmp_path / "no lock").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "lock").mkdir()
    name = orphaned(tmp_path)
    (orphan,) = find_orphans(tmp_path)
    assert orphan.folder.path.name == name
    orphan.folder.leave()
    assert list(find_orphans(tmp_path / "nowhere")) == []
    assert list(find_orphans(tmp_path / "file.bad")) == []


def test_a_folder_that_is_removed_while_it_is_being_adopted_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, flock = create_dir(tmp_path), fcntl.flock

    def too_late(descriptor: int, operation: int) -> None:
        folder.remove()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", too_late)
    assert list(adopt_dirs(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_empty_folders_are_removed(tmp_path: Path) -> None:
    create_dir(tmp_path).leave()
    assert list(find_orphans(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_segments_come_in_order(tmp_path: Path) -> None:
    folder = SpoolDir(tmp_path, -1)
    for number in (10, 2, 999_999, 1):
        folder.segment(number).touch()
    assert folder.segments() == [folder.segment(number) for number in (1, 2, 10, 999_999)]
