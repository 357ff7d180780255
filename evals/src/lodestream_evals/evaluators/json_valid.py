"""Whether the output is JSON, and where it breaks. What is no text already is."""

from lodestream_evals.evaluators._evaluator import Case, Judging, Kind, Tools, Verdict
from lodestream_evals.evaluators._json import NotJsonError, parse
from lodestream_evals.evaluators._settings import path_setting, shown
from lodestream_evals.evaluators._spec import Spec, kind_of

_TYPES = {"object": dict, "array": list}


def read(spec: Spec) -> Judging:
    """Settings: `type` (any, object, array), `field`."""
    path, wanted = path_setting(spec), spec.one_of("type", ("any", *_TYPES), "any")

    def judge(case: Case, _: Tools) -> Verdict:
        field = path.of(case)
        if field.missing:
            return Verdict(False, field.missing)
        value = field.value
        if isinstance(value, str):
            try:
                value = parse(value)
            except NotJsonError as error:
                return Verdict(False, f"no JSON: {error}")
        if wanted != "any" and not isinstance(value, _TYPES[wanted]):
            return Verdict(False, f"expected an {wanted}, got {kind_of(value)}: {shown(value)}")
        return Verdict(True, f"is JSON: {kind_of(value)}")

    return Judging(judge, "BOOLEAN")


KIND = Kind("json_valid", 1, read)
