"""The tree's own rules: where code may live, and which lists must agree with the folders."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.all_in_one.services import SERVICES
from shared.event_log.projections import PROJECTIONS
from shared.event_log.topics import TOPICS

ROOT = Path(__file__).parents[2]
SHARED_FOLDERS = {"auth", "event_log", "projection", "rules", "runtime", "spans", "storage"}
FORBIDDEN_NAMES = {"utils", "util", "common", "core", "base", "helpers", "types", "misc", "manager"}


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def services() -> dict[str, Path]:
    """Every process: a folder under services/ with a __main__."""
    return {module_name(main.parent): main.parent for main in (ROOT / "services").rglob("__main__.py")}


def long_running_services() -> set[str]:
    """The processes that a deployment runs: all but the command line and the one that starts the others."""
    return set(services()) - {"services.edge.cli", "services.all_in_one"}


@pytest.mark.parametrize("folder", ["services", "shared", "sdk/src", "evals/src"])
def test_nothing_is_named_for_what_it_does_not_say(folder: str) -> None:
    names = {part for path in python_files(folder) for part in (path.stem, path.parent.name)}
    assert not names & FORBIDDEN_NAMES


def test_shared_holds_these_subjects() -> None:
    assert {
        path.name for path in (ROOT / "shared").iterdir() if path.is_dir() and path.name[0] != "_"
    } == SHARED_FOLDERS


def test_each_shared_folder_serves_two_services_and_each_module_somebody() -> None:
    """What only one service needs lives in that service; a module nobody imports is dead, or a command of its own."""
    users: dict[str, set[str]] = {}
    owners = sorted(services(), key=len, reverse=True)
    for path in python_files("services", "shared"):
        name = module_name(path)
        owner = next((service for service in owners if name.startswith(service)), name)
        for target in imports(path):
            users.setdefault(target, set()).add(owner)
    for folder in SHARED_FOLDERS:
        using = {user for target, its in users.items() if target.startswith(f"shared.{folder}") for user in its}
        assert len({user for user in using if user.startswith("services")}) >= 2, folder
    for path in python_files("shared"):
        if path.stem != "__init__" and "__main__" not in path.read_text(encoding="utf-8"):
            assert users.get(module_name(path)), f"nobody imports {module_name(path)}"


def test_every_folder_says_what_it_is() -> None:
    silent = [
        path.parent.relative_to(ROOT)
        for path in python_files("services", "shared")
        if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent


def test_all_in_one_and_compose_run_every_service() -> None:
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert {service.module for service in SERVICES} == long_running_services()
    for service in long_running_services():
        assert service in compose, f"docker-compose.yml does not start {service}"


def test_the_table_of_projections_agrees_with_the_folders() -> None:
    assert {projection.module for projection in PROJECTIONS} == {
        name for name in services() if name.startswith("services.projections.")
    }
    for projection in PROJECTIONS:
        assert list((ROOT / "shared/storage/migrations" / projection.name).glob("*.sql")), projection.name
    assert {projection.topic for projection in PROJECTIONS} == {topic.name for topic in TOPICS}


def test_services_are_independent_in_the_import_rules() -> None:
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for service in services():
        assert f'"{service}"' in contracts, f"{service} is missing in pyproject.toml's independence contract"


def test_only_migrations_and_projections_write_read_models() -> None:
    """The read side holds no statement that writes."""
    writes = re.compile(r"\b(insert\s+into|update\s+\w+\s+set|delete\s+from|truncate|copy\s+\w+)\b", re.IGNORECASE)
    for folder in ("services/read", "services/edge"):
        for path in (ROOT / folder).rglob("*.sql"):
            assert not writes.search(path.read_text(encoding="utf-8")), path


def test_generated_code_matches_the_proto_files() -> None:
    generated = {
        path.name.removesuffix("_pb2.py") for path in (ROOT / "proto/gen/lodestream_proto/v1").glob("*_pb2.py")
    }
    assert generated == {path.stem for path in (ROOT / "proto/lodestream_proto/v1").glob("*.proto")}


def test_locks_hold_hashes_and_no_addresses() -> None:
    for lock in (ROOT / "requirements").glob("*.lock"):
        text = "\n".join(
            line for line in lock.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")
        )
        assert "://" not in text, lock.name
        for requirement in re.split(r"\n(?=\S)", text.strip()):
            assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", requirement), (
                f"{lock.name}: {requirement.splitlines()[0]}"
            )


def test_environment_variables_are_read_in_one_place() -> None:
    """Every backend setting is a typed field; nobody reads the environment on the side."""
    allowed = {"shared.runtime.settings", "shared.runtime.failpoints"}
    for path in python_files("services/write", "services/projections", "services/read", "shared"):
        source = path.read_text(encoding="utf-8")
        assert module_name(path) in allowed or not re.search(r"os\.(environ|getenv)", source), path
