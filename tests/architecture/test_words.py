"""Names are the field's words: what a variable, an argument, a function or a class must not be called."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VAGUE = frozenset({"told", "said", "asked", "its", "truth"})
"""They say that somebody spoke, and not what it is: a value, a request, a reason, a row, a boolean."""
FOLDERS = (
    "services/all_in_one", "services/edge", "services/projections/prompts", "services/projections/scores",
    "services/projections/traces", "services/read", "services/write/evaluator", "shared/auth", "shared/event_log",
    "shared/rules", "shared/runtime", "shared/spans", "shared/storage",
)  # fmt: skip
"""Where no name is vague any more; others are added when they have been gone through."""


def names_in(path: Path) -> Iterator[tuple[int, str]]:
    """Every name that a module defines, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name):
                yield node.lineno, name


def is_vague(name: str) -> bool:
    return not VAGUE.isdisjoint(name.lower().split("_"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_say_what_they_are(folder: str) -> None:
    vague = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in names_in(path)
        if is_vague(name)
    ]
    assert not vague


def test_a_vague_name_is_seen(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def f(asked):\n    its_size, self.told = asked\n\nclass Said: ...\n", encoding="utf-8")
    assert [name for _, name in names_in(module) if is_vague(name)] == ["Said", "asked", "its_size", "told"]
