"""The options that say what is scored, and what people type for a score's value."""

import re
from typing import Annotated

import typer
from lodestream_proto.v1.score_event_pb2 import ScoreTarget, ScoreValue

from services.edge.cli import arguments

_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_TRUTHS = {"true": True, "false": False}


def target(
    *,
    trace: Annotated[
        str | None, typer.Option(parser=arguments.typed(arguments.full_trace_id), metavar="ID", help="Of a trace.")
    ] = None,
    span: Annotated[str, typer.Option(metavar="ID", help="Of a span of it; with --trace.")] = "",
    session: Annotated[str, typer.Option(metavar="ID", help="Of a session.")] = "",
    run: Annotated[str, typer.Option(metavar="ID", help="Of an experiment run.")] = "",
) -> ScoreTarget:
    """One of them."""
    if sum(map(bool, (trace, session, run))) != 1:
        raise typer.BadParameter("give one of --trace, --session and --run", param_hint="--trace")
    if span and not (trace and _SPAN_ID.fullmatch(span)):
        raise typer.BadParameter("is 16 hex digits, and needs --trace", param_hint="--span")
    return ScoreTarget(trace_id=bytes.fromhex(trace or ""), span_id=bytes.fromhex(span), session_id=session, run_id=run)


def value_from(text: str, kind: str) -> ScoreValue:
    """The value in what was typed; by default a number where it is one, then true and false, else a category.

    Raises typer.BadParameter.
    """
    number = _number(text)
    match kind or _kind_of(text, number):
        case "numeric" if number is not None:
            return ScoreValue(numeric=number)
        case "boolean" if text.lower() in _TRUTHS:
            return ScoreValue(boolean=_TRUTHS[text.lower()])
        case "categorical":
            return ScoreValue(categorical=text)
        case "text":
            return ScoreValue(text=text)
    raise typer.BadParameter(f"{text!r} is not {kind}", param_hint="VALUE")


def _kind_of(text: str, number: float | None) -> str:
    if number is not None:
        return "numeric"
    return "boolean" if text.lower() in _TRUTHS else "categorical"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
