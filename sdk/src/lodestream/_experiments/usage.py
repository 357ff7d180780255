"""What the task of an item used: summed up from its observations as they end."""

import json
import math
import threading
from collections.abc import Mapping
from typing import Any

_USAGE, _COST = "lodestream.observation.usage_details", "lodestream.observation.cost_details"
_INPUT = ("input", "input_tokens", "prompt_tokens", "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT = (
    "output", "output_tokens", "completion_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens",
)  # fmt: skip


class Usage:
    """Tokens and dollars. Observations may end in any thread."""

    def __init__(self) -> None:
        self.input_tokens = self.output_tokens = 0
        self.cost_usd: float | None = None
        self._lock = threading.Lock()

    def add(self, attributes: Mapping[str, Any]) -> None:
        """An observation's. What is no number counts nothing."""
        usage = {**attributes, **_object(attributes.get(_USAGE))}
        costs = _object(attributes.get(_COST))
        cost = _number(costs["total"]) if "total" in costs else sum(map(_number, costs.values()))
        with self._lock:
            self.input_tokens += int(_first(usage, _INPUT))
            self.output_tokens += int(_first(usage, _OUTPUT))
            if costs:
                self.cost_usd = (self.cost_usd or 0.0) + cost


def _first(usage: Mapping[str, Any], names: tuple[str, ...]) -> float:
    return next((_number(usage[name]) for name in names if name in usage), 0.0)


def _number(value: Any) -> float:
    """That can be counted: 0 for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) and value > 0 else 0.0


def _object(text: Any) -> dict[str, Any]:
    try:
        told = json.loads(text) if text else {}
    except (TypeError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
