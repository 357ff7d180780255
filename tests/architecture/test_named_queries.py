"""Every named query is run by a module beside its file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.storage.named_queries import is_named, load_queries

ROOT = Path(__file__).parents[2]
FOLDERS = ("services", "shared")


def named_query_files() -> list[Path]:
    files = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.sql")))
    return [path for path in files if is_named(path)]


def lookups(path: Path) -> set[str]:
    """Texts by which something is subscripted (`queries["get_span"]`) in the modules of a file's folder."""
    return {name for module in path.parent.rglob("*.py") for name in _subscripts(module)}


def _subscripts(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            yield str(node.slice.value)


@pytest.mark.parametrize("path", named_query_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_query_of_a_file_is_looked_up_beside_it(path: Path) -> None:
    unused = set(load_queries(path)) - lookups(path)
    assert not unused, f"{path.relative_to(ROOT)}: nobody runs {', '.join(sorted(unused))}"
