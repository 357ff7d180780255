"""How long the output is. With `min` or `max`, whether it keeps to them."""

from lodestream_evals.evaluators._errors import EvaluatorError, EvaluatorSpecError
from lodestream_evals.evaluators._evaluator import Case, Judging, Kind, Tools, Verdict
from lodestream_evals.evaluators._settings import bounds_setting, path_setting, text_of
from lodestream_evals.evaluators._spec import Spec

_UNITS = ("characters", "words", "lines", "tokens")


def read(spec: Spec) -> Judging:
    """Settings: `unit` (characters, words, lines, or tokens as the model counted them), `min`, `max`, `field`."""
    path, bounds = path_setting(spec), bounds_setting(spec)
    unit = spec.one_of("unit", _UNITS, "characters")
    if unit == "tokens" and "field" in spec:
        raise EvaluatorSpecError("field", "has no tokens of its own; they are counted of the whole output")

    def judge(case: Case, _: Tools) -> Verdict:
        if unit == "tokens":
            if case.output_tokens is None:
                raise EvaluatorError("the output's tokens are not known")
            return bounds.verdict(case.output_tokens, f"{case.output_tokens:,} tokens")
        field = path.of(case)
        text = text_of(field.value)
        size = {"characters": len(text), "words": len(text.split()), "lines": len(text.splitlines())}[unit]
        but = f" ({field.missing})" if field.missing else ""
        return bounds.verdict(size, f"{size:,} {unit}{but}")

    return Judging(judge, bounds.value_type)


KIND = Kind("length", 1, read)
