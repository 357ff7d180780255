"""What the public modules export, what `__all__` lists and what the reference documents are the same names."""

import ast
import re
from importlib import import_module
from inspect import ismodule
from pathlib import Path
from types import ModuleType

import lodestream
import pytest

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "sdk"
MODULES = ("lodestream", "lodestream.evaluators", "lodestream.mock", "lodestream.reports", "lodestream.testing")
INTEGRATIONS = ("lodestream.langchain", "lodestream.openai")
"""Those need the library that they integrate; the matrix imports them."""
PAGES = {name: REFERENCE / f"{name.rpartition('.')[2]}.md" for name in (*MODULES, *INTEGRATIONS)}


def exported(module: ModuleType) -> set[str]:
    """Return the public names of a module that are ours: a package's come from its modules, a module's are its own.

    Those of evaluators and reports come from the package that the server uses as well.
    """
    package = hasattr(module, "__path__")
    origin = module.__name__.replace("lodestream.", "lodestream_evals.")
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not ismodule(value)
        if (home := getattr(value, "__module__", None))
        if (home.startswith("lodestream.") if package else home == module.__name__ or home.startswith(f"{origin}."))
    }


def test_every_public_module_is_here() -> None:
    folder = Path(lodestream.__file__).parent
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    public = {f"lodestream.{name}" for name in modules if not name.startswith("_")}
    assert public | {"lodestream"} == {*MODULES, *INTEGRATIONS}


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_what_is_exported(name: str) -> None:
    module = import_module(name)
    for listed in module.__all__:  # those that are imported late are there from now on
        assert getattr(module, listed) is not None
    assert exported(module) <= set(module.__all__)
    assert len(module.__all__) == len(set(module.__all__))


@pytest.mark.parametrize("name", MODULES)
def test_the_reference_documents_what_all_lists(name: str) -> None:
    assert sorted(documented(name)) == sorted(set(import_module(name).__all__) - {"__version__"})


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_the_reference_documents_what_an_integration_lists(name: str) -> None:
    source = Path(lodestream.__file__).with_name(f"{name.rpartition('.')[2]}.py").read_text(encoding="utf-8")
    listed = re.search(r"^__all__ = (\[.*?\])$", source, re.MULTILINE | re.DOTALL)
    assert listed is not None
    assert sorted(documented(name)) == sorted(ast.literal_eval(listed[1]))


def documented(name: str) -> list[str]:
    """Return the names of a module that its page documents."""
    return re.findall(rf"^::: {re.escape(name)}\.(\w+)$", PAGES[name].read_text(encoding="utf-8"), re.MULTILINE)


def test_each_page_of_the_reference_is_about_a_public_module() -> None:
    assert set(REFERENCE.glob("*.md")) == set(PAGES.values())
