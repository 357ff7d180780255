"""A stack on this machine is found by its status file."""

import json
import os
from pathlib import Path

import pytest

from services.all_in_one.status import Entry, write
from services.edge.cli.errors import CliError
from services.edge.cli.local_stack import find

GATEWAY = Entry("gateway", "127.0.0.1:4317", 42, 1.5, "ready", 1_024, 0, "", "gateway.log")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".lodestream").mkdir()
    return tmp_path


def test_what_the_stack_writes_is_read_from_any_folder_below(folder: Path) -> None:
    write(folder / ".lodestream", [GATEWAY], {"LODESTREAM_ENDPOINT": "127.0.0.1:4317"})
    below = folder / "examples" / "deep"
    below.mkdir(parents=True)
    found = find(below)
    assert found is not None
    assert found.environment == {"LODESTREAM_ENDPOINT": "127.0.0.1:4317"}
    assert [(process.name, process.pid, process.memory_bytes) for process in found.processes] == [
        ("gateway", 42, 1_024)
    ]


def test_a_stack_that_was_killed_is_none(folder: Path) -> None:
    write(folder / ".lodestream", [GATEWAY], {})
    file = folder / ".lodestream" / "status.json"
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitpid(ended, 0)
    file.write_text(json.dumps({**json.loads(file.read_text()), "pid": ended}))
    assert find(folder) is None


def test_no_file_is_no_stack(tmp_path: Path) -> None:
    assert find(tmp_path) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"pid": "x"}', pytest.param(f'{{"pid": {os.getpid()}}}', id="a pid and no more")]
)
def test_a_file_that_is_something_else_is_named(folder: Path, content: str) -> None:
    (folder / ".lodestream" / "status.json").write_text(content)
    with pytest.raises(CliError, match=r"status\.json is not a status file"):
        find(folder)
