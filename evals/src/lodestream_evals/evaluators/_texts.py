"""Values as texts to judge, and as texts to show to people."""

import json
from collections.abc import Callable
from typing import Any, Final

from lodestream_evals.evaluators._spec import Spec

SHOWN: Final = 120
"""Characters of a value in a reason."""


def text_of(value: Any) -> str:
    """A text as it is, nothing as an empty one, everything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def shown(value: Any, most: int = SHOWN) -> str:
    """For a reason: texts in quotes, all cut to some length."""
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= most else f"'{value[:most]}…' ({len(value):,} characters)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def normalising(spec: Spec) -> Callable[[str], str]:
    """The settings `ignore_case` and `ignore_space` (runs of white space count as one, those at the ends as none)."""
    ignore_case, ignore_space = spec.flag("ignore_case"), spec.flag("ignore_space")

    def normalised(text: str) -> str:
        if ignore_case:
            text = text.casefold()
        return " ".join(text.split()) if ignore_space else text

    return normalised
