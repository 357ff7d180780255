"""`instrument`: the libraries of a program that call models are observed, whoever makes their clients."""

import importlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any, Protocol

from opentelemetry import trace

from lodestream._client import get_client


class Instrumentation(Protocol):
    """What observes a library."""

    def check(self) -> None:
        """Raise ImportError, which says what to install, if it cannot be used."""

    def start(self) -> None:
        """Observe the library from now on. Again changes nothing."""

    def stop(self) -> None:
        """Observe it no longer. Again changes nothing."""


@dataclass(frozen=True, slots=True)
class _OpenInference:
    """An instrumentation package of OpenInference."""

    package: str
    least: str
    """The oldest version that it is known to work in."""
    module: str
    class_name: str
    environment: tuple[str, str] | None = None
    """A variable that has clients, made from then on, leave out spans of their own, which would say the same again."""

    def check(self) -> None:
        instrumentor = self._instrumentor()
        from opentelemetry.instrumentation.dependencies import get_dependency_conflicts

        conflict = get_dependency_conflicts(instrumentor.instrumentation_dependencies())
        if conflict is not None:
            found = conflict.found or "nothing"
            raise ImportError(f"{self.package} observes {conflict.required}, and there is {found}: pip install that")

    def start(self) -> None:
        instrumentor = self._instrumentor()
        if not instrumentor.is_instrumented_by_opentelemetry:
            if self.environment is not None:
                os.environ.setdefault(*self.environment)
            client = get_client()
            everywhere = client.settings.global_tracing
            instrumentor.instrument(
                tracer_provider=trace.get_tracer_provider() if everywhere else client.tracer_provider,
                skip_dep_check=True,
            )

    def stop(self) -> None:
        instrumentor = self._instrumentor()
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()
            if self.environment is not None and os.environ.get(self.environment[0]) == self.environment[1]:
                del os.environ[self.environment[0]]

    def _instrumentor(self) -> Any:
        wanted = f"{self.package}>={self.least}"
        try:
            installed = version(self.package)
        except PackageNotFoundError:
            raise ImportError(f"{self.package} is not installed: pip install '{wanted}'") from None
        if _numbers(installed) < _numbers(self.least):
            raise ImportError(f"{self.package} {installed} is too old: pip install '{wanted}'")
        return getattr(importlib.import_module(self.module), self.class_name)()


@dataclass(frozen=True, slots=True)
class _Own:
    """An integration of ours, whose module has `observe_everywhere`."""

    module: str

    def check(self) -> None:
        importlib.import_module(self.module)

    def start(self) -> None:
        importlib.import_module(self.module).observe_everywhere(True)

    def stop(self) -> None:
        importlib.import_module(self.module).observe_everywhere(False)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:3]))


def _open_inference(
    name: str, least: str, class_name: str, environment: tuple[str, str] | None = None
) -> _OpenInference:
    package = f"openinference-instrumentation-{name.replace('_', '-')}"
    return _OpenInference(package, least, f"openinference.instrumentation.{name}", class_name, environment)


LIBRARIES: Mapping[str, Instrumentation] = MappingProxyType(
    {
        "anthropic": _open_inference(
            "anthropic", "3.0", "AnthropicInstrumentor", ("ANTHROPIC_OPEN_TELEMETRY", "false")
        ),
        "bedrock": _open_inference("bedrock", "0.1.60", "BedrockInstrumentor"),
        "google_genai": _open_inference("google_genai", "1.4", "GoogleGenAIInstrumentor"),
        "langchain": _Own("lodestream.langchain"),
        "litellm": _open_inference("litellm", "0.1.50", "LiteLLMInstrumentor"),
        "llama_index": _open_inference("llama_index", "4.6", "LlamaIndexInstrumentor"),
        "openai": _Own("lodestream.openai"),
    }
)
"""What `instrument` observes, by name."""


def instrument(*libraries: str) -> None:
    """Observe all calls that the process makes with libraries. Call it once, before their clients are made.

    LangChain and OpenAI are observed by `lodestream.langchain` and `lodestream.openai`, the others by instrumentation
    packages of OpenInference, which have to be installed. What is observed already stays so.

    Args:
        *libraries: "anthropic", "bedrock", "google_genai", "langchain", "litellm", "llama_index" or "openai".

    Raises:
        ValueError: A name is none of those.
        ImportError: A package is missing, too old, or for another version of the library; says what to install. Then
            none of the libraries is observed.

    Example:
        ::

            import lodestream

            lodestream.instrument("anthropic", "langchain")
    """
    chosen = _chosen(libraries)
    for instrumentation in chosen:
        instrumentation.check()
    for instrumentation in chosen:
        instrumentation.start()


def uninstrument(*libraries: str) -> None:
    """Observe libraries no longer. Those that are not observed are passed over.

    Args:
        *libraries: As for `instrument`.

    Raises:
        ValueError: A name is none of those.
        ImportError: The package that observes a library is missing, so that it cannot be observed.
    """
    for instrumentation in _chosen(libraries):
        instrumentation.stop()


def _chosen(libraries: tuple[str, ...]) -> list[Instrumentation]:
    for name in libraries:
        if name not in LIBRARIES:
            raise ValueError(f"{name!r} is none of {', '.join(LIBRARIES)}")
    return [LIBRARIES[name] for name in libraries]
