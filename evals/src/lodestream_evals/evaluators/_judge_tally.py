"""What several votes of a judge come to, and how far they agree.

Of truths and choices the majority counts, of numbers the median.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from lodestream_evals.evaluators._judge_forms import Form, Vote

_IN_COMMENT, _IN_METADATA = 4_000, 4_500  # characters of reasoning


@dataclass(frozen=True, slots=True)
class Tally:
    """The outcome of votes."""

    value: bool | float | str
    agreement: float
    """The share of votes for it."""
    comment: str
    metadata: Mapping[str, Any]


def tally(form: Form, votes: Sequence[Vote | str]) -> Tally:
    """Of votes, of which those that are texts failed (with that text); one at least did not.

    A tie of truths is false. Of choices that tie, the form's first counts.
    """
    given = [vote for vote in votes if isinstance(vote, Vote)]
    counts = Counter(vote.value for vote in given)
    value = _outcome(form, [vote.value for vote in given], counts)
    agreement = counts[value] / len(given)
    metadata: dict[str, Any] = {}
    if form.choices is not None and (number := form.choices[str(value)]) is not None:
        metadata["choice_value"] = number
    nearest = min(given, key=lambda vote: _distance(vote.value, value))
    if len(votes) == 1:
        return Tally(value, 1.0, nearest.reasoning[:_IN_COMMENT], metadata)
    shares = {_written(each): count / len(given) for each, count in counts.most_common()}
    metadata |= {
        "agreement": agreement,
        "shares": shares,
        "votes": [_kept(vote, _IN_METADATA // len(votes)) for vote in votes],
    }
    comment = f"{_summary(form, value, counts, votes)} {nearest.reasoning[:_IN_COMMENT]}"
    return Tally(value, agreement, comment, metadata)


def _outcome(form: Form, values: Sequence[Any], counts: Mapping[Any, int]) -> bool | float | str:
    if form.value_type == "NUMERIC":
        return float(median(values))
    order: Sequence[bool | str] = list(form.choices) if form.choices is not None else [False, True]
    return max(order, key=lambda option: counts.get(option, 0))


def _summary(form: Form, value: Any, counts: "Counter[Any]", votes: Sequence[Vote | str]) -> str:
    given = counts.total()
    listed = ", ".join(f"{_written(each)} {count}" for each, count in counts.most_common())
    failed = f"; {len(votes) - given} of {len(votes)} failed" if given < len(votes) else ""
    if form.value_type == "NUMERIC":
        return f"{given} votes: {listed}; their median is {value:g}{failed}."
    return f"{counts[value]} of {given} votes say {_written(value)} ({listed}){failed}."


def _kept(vote: Vote | str, most: int) -> dict[str, Any]:
    if isinstance(vote, str):
        return {"error": vote[:most]}
    return {"value": vote.value, "reasoning": vote.reasoning[:most]}


def _distance(one: Any, other: Any) -> float:
    return float(one != other) if isinstance(one, str | bool) else abs(one - other)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else f"{value:g}"
