"""Which parameters of a model call a run may set: an allow-list for each kind of provider, with types and bounds. Pure.

The gateway refuses a run by it, and the worker a call. Whatever is not named here is refused: where to call and with
which key (`api_base`, `api_key`), what the operator pays or is bound by (`service_tier`, `store`, `metadata`), what a
server would execute or fetch (`chat_template`, `tools`, `web_search_options`), and what it may mean tomorrow.

After the request body of OpenAI's `POST /v1/chat/completions`.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from shared.runtime.refusal import InvalidError
from shared.runtime.settings import MockBehaviour

MAX_RESPONSE_FORMAT = 128 * 1024
"""Bytes of JSON; OpenAI takes schemas with 120,000 characters of names and values."""
_MAX_TOKENS = 1_000_000
_MAX_STOPS, _MAX_STOP, _MAX_USER, _MAX_LOGIT_BIAS = 4, 200, 255, 300
_FORMATS = ("text", "json_object", "json_schema")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
Check = Callable[[Any], str]
"""What is wrong with a value, in words that follow its name; empty when nothing is."""


def check_parameters(settings: Mapping[str, Any], kind: str, path: str) -> None:
    """Check the settings of a call to a provider of a kind ("openai", "mock").

    Raises InvalidError naming the parameter (`path` and its name) and the reason.
    """
    known = {**_PARAMETERS, **_MOCK_PARAMETERS} if kind == "mock" else _PARAMETERS
    for name, value in settings.items():
        check = known.get(name)
        if check is None:
            raise InvalidError(
                f"{path}.{name:.100}", f"is not for a run to set; it may set {', '.join(sorted(_PARAMETERS))}"
            )
        if value is not None and (why := check(value)):
            raise InvalidError(f"{path}.{name}", why)


def _number(least: float, most: float) -> Check:
    def check(value: Any) -> str:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return "" if is_number and least <= value <= most else f"is a number from {least:g} to {most:g}"

    return check


def _whole(least: int, most: int) -> Check:
    def check(value: Any) -> str:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return "" if is_whole and least <= value <= most else f"is a whole number from {least} to {most}"

    return check


def _one_of(*choices: str) -> Check:
    def check(value: Any) -> str:
        return "" if isinstance(value, str) and value in choices else f"is one of {', '.join(choices)}"

    return check


def _is_text(value: Any, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most


def _user(value: Any) -> str:
    return "" if _is_text(value, _MAX_USER) else f"is a text of 1 to {_MAX_USER} characters"


def _stop(value: Any) -> str:
    stops = value if isinstance(value, list) else [value]
    if 0 < len(stops) <= _MAX_STOPS and all(_is_text(stop, _MAX_STOP) for stop in stops):
        return ""
    return f"is a text of 1 to {_MAX_STOP} characters, or up to {_MAX_STOPS} of them"


def _logit_bias(value: Any) -> str:
    if isinstance(value, dict) and len(value) <= _MAX_LOGIT_BIAS:
        is_bias = _number(-100, 100)
        if all(token.isdecimal() and len(token) < 10 and not is_bias(bias) for token, bias in value.items()):
            return ""
    return f"is an object of up to {_MAX_LOGIT_BIAS} tokens' numbers, each with a number from -100 to 100"


def _response_format(value: Any) -> str:
    if not isinstance(value, dict) or value.get("type") not in _FORMATS:
        return f"is an object whose type is one of {', '.join(_FORMATS)}"
    if unknown := value.keys() - {"type", "json_schema"}:
        return f"has {min(unknown)!r:.100}, which is not known"
    if value["type"] == "json_schema":
        schema = value.get("json_schema")
        if not isinstance(schema, dict) or not isinstance(schema.get("schema", {}), dict):
            return "has a json_schema, an object with a schema"
    size = len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return f"has {size:,} bytes; at most {MAX_RESPONSE_FORMAT:,} are taken" if size > MAX_RESPONSE_FORMAT else ""


def _mock_behaviour(value: Any) -> str:
    """The mock model says itself what it makes of a value, and names the setting."""
    return "" if value is None or isinstance(value, int | float) else "is a number"


_PARAMETERS: Mapping[str, Check] = {
    "frequency_penalty": _number(-2, 2),
    "logit_bias": _logit_bias,
    "max_completion_tokens": _whole(1, _MAX_TOKENS),
    "max_tokens": _whole(1, _MAX_TOKENS),
    "presence_penalty": _number(-2, 2),
    "reasoning_effort": _one_of(*_EFFORTS),
    "response_format": _response_format,
    "seed": _whole(-(2**63), 2**63 - 1),
    "stop": _stop,
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "user": _user,
    "verbosity": _one_of("low", "medium", "high"),
}
_MOCK_PARAMETERS: Mapping[str, Check] = {
    name: _mock_behaviour for name in MockBehaviour.model_fields if name not in _PARAMETERS
}
