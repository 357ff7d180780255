"""Whether the output is JSON, and where it breaks. What is no text already is."""

from lodestream_evals.evaluators._case import Case, Tools
from lodestream_evals.evaluators._evaluator import Judging, Kind, Verdict
from lodestream_evals.evaluators._fields import path_setting
from lodestream_evals.evaluators._json import NotJsonError, parse
from lodestream_evals.evaluators._spec import Spec, kind_of
from lodestream_evals.evaluators._texts import shown

_TYPES = {"object": dict, "array": list}


def read(spec: Spec) -> Judging:
    """Settings: `type` (any, object, array), `field`."""
    path, wanted = path_setting(spec), spec.one_of("type", ("any", *_TYPES), "any")

    def judge(case: Case, _: Tools) -> Verdict:
        found = path.of(case)
        if found.missing:
            return Verdict(False, found.missing)
        value = found.value
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
