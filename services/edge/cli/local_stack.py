"""A stack that runs on this machine, as `services.all_in_one` tells of it in its status file."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.edge.cli.errors import CliError

_STATUS_FILE = Path(".lodestream/status.json")


@dataclass(frozen=True, slots=True)
class LocalProcess:
    """A server or service; `pid` and `memory_bytes` are None while it is down."""

    name: str
    address: str
    pid: int | None
    state: str
    memory_bytes: int | None
    restarts: int
    reason: str


@dataclass(frozen=True, slots=True)
class LocalStack:
    """Where it was found, what runs, and the variables that programs need to join in."""

    file: Path
    written_at: str
    environment: Mapping[str, str]
    processes: tuple[LocalProcess, ...]


def find(start: Path) -> LocalStack | None:
    """Find the running stack whose status file is in this folder or the nearest one above; None if there is none.

    Raises CliError when there is a file but it can't be understood.
    """
    for folder in (start, *start.parents):
        file = folder / _STATUS_FILE
        try:
            text = file.read_text(encoding="utf-8")
        except OSError:
            continue
        try:
            content = json.loads(text)
            return _understood(file, content) if _alive(int(content["pid"])) else None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CliError(f"{file} is not a status file: {type(error).__name__} {error}") from None
    return None


def _understood(file: Path, content: Mapping[str, Any]) -> LocalStack:
    return LocalStack(
        file,
        content["written_at"],
        {str(name): str(value) for name, value in content["environment"].items()},
        tuple(
            LocalProcess(
                name=process["name"],
                address=process["address"],
                pid=process["pid"],
                state=process["state"],
                memory_bytes=process["memory_bytes"],
                restarts=process["restarts"],
                reason=process["reason"],
            )
            for process in content["processes"]
        ),
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
