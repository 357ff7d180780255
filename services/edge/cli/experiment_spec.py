"""What people type for the task and the evaluators of a run, and what it means. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_SETTING = re.compile(r",(?=[A-Za-z_][A-Za-z0-9_]*=)")
_KIND = re.compile(r"[a-z][a-z0-9_]*")


class Spec(dict[str, Any]):
    """What is to be JSON: an evaluator, a prompt."""


class Setting(NamedTuple):
    """A name and what it is set to."""

    name: str
    value: Any


def evaluator_spec(text: str) -> Spec:
    """`contains:value=14 days,ignore_case=true` as {"kind": "contains", "value": "14 days", "ignore_case": true}.

    Values are JSON where they can be, else texts. A comma is between settings only where NAME= follows. Raises
    ValueError.
    """
    kind, colon, rest = text.partition(":")
    if not _KIND.fullmatch(kind.strip()):
        raise ValueError(f"{text!r} does not begin with a kind: write contains:value=14 days,name=mentions-days")
    spec = Spec(kind=kind.strip())
    if colon and not rest.strip():
        raise ValueError(f"{text!r} has no settings after its colon")
    for piece in _SETTING.split(rest) if rest else ():
        name, value = setting(piece)
        if name in spec:
            raise ValueError(f"{text!r} says {name} twice")
        spec[name] = value
    return spec


def setting(text: str) -> Setting:
    """`temperature=0` as ("temperature", 0). Raises ValueError."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"{text!r} is not NAME=VALUE")
    try:
        return Setting(name.strip(), json.loads(value, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return Setting(name.strip(), value)


def prompt_named(text: str) -> Spec:
    """`answer`, `answer:7`, `answer:staging`: a prompt's production version, a version, a label. Raises ValueError."""
    name, colon, which = text.rpartition(":")
    if not colon:
        name, which = text, ""
    if not name or (colon and not which):
        raise ValueError(f"{text!r} is not a prompt: write answer, answer:7 or answer:staging")
    if which.isdecimal() and which.isascii():
        return Spec(name=name, version=int(which))
    return Spec(name=name, label=which or "production")


def spec_lists(content: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Of a file: a list of evaluators, or an object with `evaluators` and `run_evaluators`. Raises ValueError."""
    if isinstance(content, list):
        content = {"evaluators": content}
    if not isinstance(content, dict) or not set(content) <= {"evaluators", "run_evaluators"}:
        raise ValueError("is neither a list of evaluators nor an object with evaluators and run_evaluators")
    lists = content.get("evaluators", []), content.get("run_evaluators", [])
    for specs in lists:
        if not (isinstance(specs, list) and all(isinstance(spec, dict) for spec in specs)):
            raise ValueError("has evaluators that are no list of objects")
    return lists


def default_name(prompt: Mapping[str, Any], version: int, stamp: str) -> str:
    """`answer.4.20260301-121500`."""
    return f"{prompt['name']}.{version}.{stamp}"


def task_of(prompt: Mapping[str, Any], provider: str, model: str, settings: Sequence[Setting]) -> dict[str, Any]:
    """A prompt against a model."""
    task: dict[str, Any] = {"kind": "prompt", "prompt": dict(prompt), "provider": provider, "model": model}
    return {**task, "settings": dict(settings)} if settings else task


def _refuse(name: str) -> None:
    raise ValueError(name)
