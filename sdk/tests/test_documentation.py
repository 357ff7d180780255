"""`help()` of everything public reads like documentation: a sentence that stands alone, and every argument."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import lodestream
import pytest

MODULES = ("lodestream", "lodestream.mock", "lodestream.testing")
WITH_EXAMPLE = ("observe", "Lodestream", "Lodestream.get_prompt", "Lodestream.run_experiment")
LEANING = ("Of ", "The same", "As ", "That ")
"""Beginnings of sentences that need what stands beside them."""


def public() -> Iterator[tuple[str, Any]]:
    """Every function, class and method that a program may use, by its name."""
    seen = set()
    for module in map(import_module, MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if not callable(value) or not getattr(value, "__module__", "").startswith("lodestream") or value in seen:
                continue
            seen.add(value)
            yield name, value
            if inspect.isclass(value):
                yield from methods_of(name, value)


def methods_of(name: str, of: type) -> Iterator[tuple[str, Any]]:
    ours = [each for each in of.__mro__ if each.__module__.startswith("lodestream")]
    for each in ours:
        for attribute, value in vars(each).items():
            method = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            if inspect.isfunction(method) and not attribute.startswith("_"):
                yield f"{name}.{attribute}", method


ALL = dict(public())


def arguments_of(value: Any) -> list[str]:
    """Argument names as their section writes them; a class has those of its `__init__`, unless it is made by us."""
    function = value.__init__ if inspect.isclass(value) else value
    if not inspect.isfunction(function) or (inspect.isclass(value) and dataclasses.is_dataclass(value)):
        return []
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    return [stars.get(each.kind, "") + each.name for each in parameters]


def from_opentelemetry(value: Any) -> bool:
    """Whether a method is one of OpenTelemetry's API, which documents it."""
    owner = value.__qualname__.rpartition(".")[0]
    return owner in ("Observation", "TracerProvider", "ReadableSpan") and not value.__doc__


@pytest.mark.parametrize("name", [name for name, value in ALL.items() if not from_opentelemetry(value)])
def test_a_sentence_that_stands_alone_and_every_argument(name: str) -> None:
    value = ALL[name]
    text = inspect.cleandoc(value.__doc__ or "")
    if inspect.isclass(value) and inspect.isfunction(value.__init__) and value.__init__.__doc__:
        text += "\n" + inspect.cleandoc(value.__init__.__doc__)
    assert text[:1].isupper(), text
    assert not text.startswith(LEANING), text
    documented = re.findall(r"^    (\*{0,2}\w+): \S", text.partition("Args:")[2].split("\n\n")[0], re.MULTILINE)
    internal = inspect.isclass(value) and name in ("Observation", "CurrentClient", "CurrentObservation")
    assert internal or documented == arguments_of(value) or issubclass_of_error(value), arguments_of(value)


def issubclass_of_error(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception)


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_the_main_ones_have_an_example(name: str) -> None:
    assert "Example:" in (ALL[name].__doc__ or "")


def test_what_is_internal_has_no_public_name() -> None:
    client = lodestream.Lodestream(tracing_enabled=False)
    observation = client.start_observation(name="a")
    assert {name for name in vars(client) if not name.startswith("_")} == {"settings", "tracer_provider"}
    assert {name for name in vars(observation) if not name.startswith("_")} == set()
    assert {name for name in vars(client.tracer_provider) if not name.startswith("_")} == set()
