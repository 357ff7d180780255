"""The environments of the matrix: one a lock in requirements/matrix, kept in .venv/matrix until its lock changes."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".venv" / "matrix"
OURS = (ROOT / "sdk" / "src", ROOT / "evals" / "src", ROOT / "proto" / "gen")
"""What stands for our own packages: the sources, so that a change needs no new environment."""


def python_of(name: str) -> Path:
    """The interpreter of an environment that holds exactly what its lock says; made if there is none.

    Raises subprocess.CalledProcessError, with what uv said, when it cannot be made.
    """
    lock, folder = ROOT / "requirements" / "matrix" / f"{name}.lock", FOLDER / name
    wanted = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    ready = folder / "ready"
    with _alone(name):
        if not ready.exists() or ready.read_text() != wanted:
            _make(folder, lock)
            ready.write_text(wanted)
    return folder / "bin" / "python"


def _make(folder: Path, lock: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    shutil.rmtree(folder, ignore_errors=True)
    _run(uv, "venv", "--quiet", "--python", sys.executable, folder)
    _run(uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", "--require-hashes", "-r", lock)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "lodestream.pth").write_text("".join(f"{path}\n" for path in OURS))


def _run(*command: object) -> None:
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise subprocess.CalledProcessError(ran.returncode, ran.args, ran.stdout, f"{ran.args}\n{ran.stderr}")


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Not while another process makes the same one."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.making").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
