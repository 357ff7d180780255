"""The part we take in what the whole process traces, beside whatever tracer provider the program has or sets later."""

from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.util._once import Once

from lodestream._diagnostics import guarded, log
from lodestream._opentelemetry.tracer import ProcessTracerProvider, TracerProvider


@guarded(None)
def take_part() -> None:
    """Be the process's tracer provider where there is none; where there is one, get its spans by a span processor.

    Ours stands in only until the program sets its own: `set_tracer_provider` then goes through as if there were none.
    """
    current = trace.get_tracer_provider()
    if isinstance(current, trace.ProxyTracerProvider):
        trace.set_tracer_provider(ProcessTracerProvider())
        _let_another_be_set()
    else:
        _attach_to(current)


def _let_another_be_set() -> None:
    """OpenTelemetry lets a provider be set once. Ours, which nobody asked for, is not to be the one."""
    if type(getattr(trace, "_TRACER_PROVIDER_SET_ONCE", None)) is Once:
        trace._TRACER_PROVIDER_SET_ONCE = _SetOnce()  # noqa: SLF001 - there is no public way
    else:
        log.debug("with this version of opentelemetry-api no other tracer provider can be set after ours")


class _SetOnce(Once):
    """Has ours step back when another provider is set."""

    def do_once(self, func: Callable[[], None]) -> bool:
        ours = trace.get_tracer_provider()
        done = super().do_once(func)
        if done and isinstance(ours, ProcessTracerProvider):
            _step_back(ours)
        return done


@guarded(None)
def _step_back(ours: ProcessTracerProvider) -> None:
    """Tracers that we handed out make their spans by the program's own provider from now on."""
    theirs = trace.get_tracer_provider()
    if theirs is not ours:
        ours.successor = theirs
        _attach_to(theirs)


def _attach_to(provider: Any) -> None:
    if isinstance(provider, TracerProvider) or not hasattr(provider, "add_span_processor"):
        return
    from lodestream._opentelemetry.span_processor import (
        attach_to,  # and opentelemetry-sdk, which is loaded where there is a provider
    )

    attach_to(provider)
