"""How alike output and expected output are, from 0 to 1, by rapidfuzz. With `min`, whether they are alike enough."""

from collections.abc import Callable
from functools import partial
from typing import Any

from lodestream_evals.evaluators._evaluator import Case, Judging, Kind, Tools
from lodestream_evals.evaluators._settings import (
    Bounds,
    expected_setting,
    imported,
    normalising,
    path_setting,
    shown,
    text_of,
)
from lodestream_evals.evaluators._spec import Spec

_METHODS = ("levenshtein", "indel", "jaro_winkler", "token_sort", "token_set")
_MAX_TEXT = 20_000  # the time grows with the product of both lengths


def read(spec: Spec) -> Judging:
    """Settings: `method`, `min`, `value`, `field`, `expected_field`, `ignore_case`, `ignore_space`.

    Of longer texts the first 20,000 characters are compared.
    """
    path, expected_of, normalised = path_setting(spec), expected_setting(spec), normalising(spec)
    method = spec.one_of("method", _METHODS, "levenshtein")
    bounds = Bounds(least=spec.number("min", None, least=0, most=1))
    similarity = _similarity(method)

    def judge(case: Case, _: Tools) -> Any:
        expected, field = text_of(expected_of(case)), path.of(case)
        got = text_of(field.value)
        value = similarity(normalised(got)[:_MAX_TEXT], normalised(expected)[:_MAX_TEXT])
        cut = {"compared_characters": _MAX_TEXT} if max(len(got), len(expected)) > _MAX_TEXT else {}
        but = f"; {field.missing}" if field.missing else ""
        return bounds.verdict(value, f"{value:.3f} alike: expected {shown(expected)}, got {shown(got)}{but}", cut)

    return Judging(judge, bounds.value_type)


def _similarity(method: str) -> Callable[[str, str], float]:
    if method in ("token_sort", "token_set"):
        score = getattr(imported("rapidfuzz.fuzz"), f"{method}_ratio")
        return lambda one, other: float(score(one, other)) / 100
    names = {"levenshtein": "Levenshtein", "indel": "Indel", "jaro_winkler": "JaroWinkler"}
    return partial(_normalized, imported(f"rapidfuzz.distance.{names[method]}"))


def _normalized(distance: Any, one: str, other: str) -> float:
    return float(distance.normalized_similarity(one, other))


KIND = Kind("string_similarity", 1, read)
