"""What people type for the rule of a gate, and what it means. Pure."""

import math
import re
from typing import NamedTuple

from lodestream.reports import Threshold

_BOUNDS = re.compile(r"(.*?)(?::((?:min|max)=[^,]*(?:,(?:min|max)=[^,]*)*))?", re.DOTALL)


class JudgedMetric(NamedTuple):
    """A metric that is judged, and what its mean must keep to, if anything."""

    name: str
    threshold: Threshold | None


class Allowance(NamedTuple):
    """A metric, and the loss of it that is allowed."""

    name: str
    value: float


def judged_metric(text: str) -> JudgedMetric:
    """`accuracy`, `accuracy:min=0.8`, `latency:max=2`, `score:min=0.2,max=0.4`. Raises ValueError."""
    match = _BOUNDS.fullmatch(text)
    if match is None or not match[1]:
        raise ValueError(f"{text!r} is not a metric: write accuracy, accuracy:min=0.8 or latency:max=2")
    if match[2] is None:
        return JudgedMetric(match[1], None)
    bounds: dict[str, float] = {}
    for piece in match[2].split(","):
        name, _, value = piece.partition("=")
        if name in bounds:
            raise ValueError(f"{text!r} says {name} twice")
        bounds[name] = number(value, text)
    if bounds.get("min", -math.inf) > bounds.get("max", math.inf):
        raise ValueError(f"{text!r} leaves no value between min and max")
    return JudgedMetric(match[1], Threshold(bounds.get("min"), bounds.get("max")))


def allowed_regression(text: str) -> Allowance:
    """`accuracy=0.02`. Raises ValueError."""
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        raise ValueError(f"{text!r} is not NAME=VALUE: write accuracy=0.02")
    allowed = number(value, text)
    if allowed < 0:
        raise ValueError(f"{text!r}: a loss that is allowed is not below 0")
    return Allowance(name, allowed)


def number(text: str, where: str) -> float:
    """A finite number; `2%` is 0.02. Raises ValueError."""
    spelled = text.strip()
    percent = spelled.endswith("%")
    try:
        value = float(spelled.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} in {where!r} is not a number")
    return value
