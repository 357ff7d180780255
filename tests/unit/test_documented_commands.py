"""What documentation and help tell people to type: commands that parse, verbs that exist, Python that compiles."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer
from typer._click.exceptions import MissingParameter, NoArgsIsHelpError
from typer.exceptions import Exit

from services.edge.cli.__main__ import app

ROOT = Path(__file__).parents[2]
INTEGRATIONS = {"lodestream.langchain"}
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "sdk" / "README.md"], key=lambda page: page.parts
)
ROOT_COMMAND: Any = typer.main.get_command(app)
FENCE = re.compile(r"^ *```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^ *```", re.MULTILINE | re.DOTALL)


def fences(language: str) -> Iterator[tuple[str, str]]:
    """Yield the blocks of a language: the page and the line where each begins, and its text."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            if fence["language"] == language:
                yield f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, fence.start()) + 1}", fence["text"]


def typed(program: str) -> Iterator[Any]:
    """Yield the command lines of console blocks that run a program."""
    for place, text in fences("console"):
        for line in re.findall(r"^\$ (.*)$", text.replace("\\\n", " "), re.MULTILINE):
            if Path(line.split()[0]).name == program:
                yield pytest.param(words_of(line), id=f"{place} {line[:60]}")


def mentioned(program: str) -> Iterator[Any]:
    """Yield the command lines in sentences and tables; they may leave out what a command needs."""
    for page in PAGES:
        for line in re.findall(rf"`({program} [^`…\[]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))):
            yield pytest.param(words_of(line), id=f"{page.relative_to(ROOT)} {line[:60]}")


def examples() -> Iterator[Any]:
    """Yield the command lines of the examples in the command line's own help."""
    commands: list[Any] = [ROOT_COMMAND]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for line in re.findall(r"^ *(lodestream .*)$", (command.help or "").replace("\\\n", " "), re.MULTILINE):
            yield pytest.param(words_of(line), id=line[:80])


def words_of(line: str) -> list[str]:
    """Return the arguments of a command line, up to what the shell does with its output."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;<>&")
    lexer.whitespace_split = True
    words = list(lexer)
    return words[1 : next((at for at, word in enumerate(words) if set(word) <= set("|;<>&")), len(words))]


def parse(words: list[str]) -> None:
    """Read a command line as the command does, without running it."""
    command: Any = ROOT_COMMAND
    with suppress(Exit):  # --help
        context = command.make_context("lodestream", words)
        while hasattr(command, "resolve_command"):
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("words", [*typed("lodestream"), *examples()])
def test_a_command_line_of_documentation_or_help_is_understood(words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize("words", [*mentioned("lodestream")])
def test_a_command_that_the_documentation_mentions_exists_with_its_options(words: list[str]) -> None:
    with suppress(MissingParameter, NoArgsIsHelpError):
        parse(words)


@pytest.mark.parametrize("words", [*typed("make"), *mentioned("make")])
def test_a_verb_of_the_documentation_exists(words: list[str]) -> None:
    verbs = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {word for word in words if "=" not in word} <= set(verbs)


@pytest.mark.parametrize(("place", "text"), [pytest.param(*block, id=block[0]) for block in fences("python")])
def test_python_of_the_documentation_compiles_and_imports_what_exists(place: str, text: str) -> None:
    tree = compile(text, place, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lodestream":
            assert {alias.name for alias in node.names} <= names_of(str(node.module))


def names_of(module: str) -> set[str]:
    """Return what a module of the SDK offers; that of an integration by its source, as it needs what it integrates."""
    if module in INTEGRATIONS:
        source = (ROOT / "sdk" / "src" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        return set(
            re.findall(r"^__all__ = \[(.*?)\]$", source, re.MULTILINE | re.DOTALL)[0].replace('"', "").split(", ")
        )
    imported = importlib.import_module(module)
    return {*dir(imported), *getattr(imported, "__all__", ())}
