"""The Pythons of this machine that the SDK supports, each with an environment that has what the SDK needs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_OLDEST = (3, 11)
_SOURCES = os.pathsep.join(str(_ROOT / folder) for folder in ("sdk/src", "evals/src", "proto/gen"))


@dataclass(frozen=True)
class Interpreter:
    """A Python; `environment` is what its programs need to import the SDK of this tree."""

    python: Path
    environment: dict[str, str]


def interpreters() -> dict[str, Path]:
    """One of each minor version, by its version; the running one first."""
    found = {_version_of(Path(sys.executable)): Path(sys.executable)}
    minors = {tuple(map(int, version.split(".")[:2])) for version in found}
    for python in _candidates():
        version = _version_of(python)
        minor = tuple(map(int, version.split(".")[:2])) if version else ()
        if minor >= _OLDEST and minor not in minors:
            minors.add(minor)
            found[version] = python
    return found


def prepared(python: Path, folder: Path) -> Interpreter:
    """The interpreter with an environment made in the folder. Raises subprocess.CalledProcessError."""
    if python == Path(sys.executable):
        return Interpreter(python, {})
    uv, needs = _ROOT / ".venv/bin/uv", tomllib.loads((_ROOT / "sdk/pyproject.toml").read_text())["project"]
    installed = [need for need in needs["dependencies"] if not need.startswith("lodestream")]
    _run(str(uv), "venv", "--quiet", "--python", str(python), str(folder))
    _run(str(uv), "pip", "install", "--quiet", "--only-binary", ":all:", "--python", str(folder), *installed)
    return Interpreter(folder / "bin/python", {"PYTHONPATH": _SOURCES})


def _candidates() -> list[Path]:
    pyenv = sorted((Path.home() / ".pyenv/versions").glob("3.*/bin/python"), reverse=True)
    named = [shutil.which(f"python3.{minor}") for minor in range(_OLDEST[1], 20)]
    return [*pyenv, *(Path(path) for path in named if path)]


def _version_of(python: Path) -> str:
    """For example "3.12.1"; empty for one that does not run, as a shim without a version."""
    try:
        told = _run(str(python), "-c", "import platform; print(platform.python_version())").strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return told if re.fullmatch(r"3\.\d+\.\d+", told) else ""


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
