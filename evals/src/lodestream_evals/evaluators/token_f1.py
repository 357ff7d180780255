"""How many words output and expected output share: F1, as SQuAD defines it.

After the evaluation script of SQuAD 2.0 (Rajpurkar, Jia, Liang: "Know What You Don't Know", ACL 2018): in lower case,
without punctuation, without a, an and the; words count as often as both have them; of several expected texts the best
counts; where one side has no words left, both must have none.
"""

import re
import string
from collections import Counter
from dataclasses import dataclass

from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._evaluator import Case, Judging, Kind, Tools, Verdict
from lodestream_evals.evaluators._settings import Bounds, expected_setting, path_setting, shown, text_of
from lodestream_evals.evaluators._spec import Spec

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two texts share."""

    f1: float
    precision: float
    """Of the output's words."""
    recall: float
    """Of the expected words."""


def read(spec: Spec) -> Judging:
    """Settings: `min`, `value`, `field`, `expected_field`."""
    path, expected_of = path_setting(spec), expected_setting(spec)
    bounds = Bounds(least=spec.number("min", None, least=0, most=1))

    def judge(case: Case, _: Tools) -> Verdict:
        expected = expected_of(case)
        wanted = [text_of(each) for each in expected] if isinstance(expected, list) else [text_of(expected)]
        if not wanted:
            raise EvaluatorError("nothing to compare with: the expected output is an empty list")
        field = path.of(case)
        got = text_of(field.value)
        best, text = max(((overlap(got, each), each) for each in wanted), key=lambda pair: pair[0].f1)
        but = f"; {field.missing}" if field.missing else ""
        summary = f"F1 {best.f1:.3f}: expected {shown(text)}, got {shown(got)}{but}"
        return bounds.verdict(best.f1, summary, {"precision": best.precision, "recall": best.recall})

    return Judging(judge, bounds.value_type)


def overlap(output: str, expected: str) -> Overlap:
    """Of the words of both."""
    got, wanted = words(output), words(expected)
    if not got or not wanted:
        same = float(got == wanted)
        return Overlap(same, same, same)
    shared = sum((Counter(got) & Counter(wanted)).values())
    if not shared:
        return Overlap(0.0, 0.0, 0.0)
    precision, recall = shared / len(got), shared / len(wanted)
    return Overlap(2 * precision * recall / (precision + recall), precision, recall)


def words(text: str) -> list[str]:
    """That count."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


KIND = Kind("token_f1", 1, read)
