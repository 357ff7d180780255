"""Whether the output matches a pattern of RE2's: in time that grows with the text's length, whatever the pattern."""

from typing import Any

from lodestream_evals.evaluators._case import Case, Tools
from lodestream_evals.evaluators._errors import SettingError
from lodestream_evals.evaluators._evaluator import Judging, Kind, Verdict
from lodestream_evals.evaluators._extra import imported
from lodestream_evals.evaluators._fields import path_setting
from lodestream_evals.evaluators._spec import Spec
from lodestream_evals.evaluators._texts import shown, text_of

_MAX_PATTERN = 10_000
_MAX_BYTES = 8 * 1024 * 1024  # of a compiled pattern and its automaton


def read(spec: Spec) -> Judging:
    """Settings: `pattern`, `full` (the whole text, not a part), `ignore_case`, `negate`, `field`."""
    path = path_setting(spec)
    pattern = spec.text("pattern", most=_MAX_PATTERN)
    full, ignore_case, negate = spec.flag("full"), spec.flag("ignore_case"), spec.flag("negate")
    compiled = spec.built("pattern", lambda: _compiled(pattern, ignore_case=ignore_case))

    def judge(case: Case, _: Tools) -> Verdict:
        found = path.of(case)
        if found.missing:
            return Verdict(False, found.missing)
        text = text_of(found.value)
        match = compiled.fullmatch(text) if full else compiled.search(text)
        if match is None:
            return Verdict(negate, f"no match of {shown(pattern)} in {shown(text)}")
        start, end = match.span()
        return Verdict(not negate, f"{shown(match.group())} matches {shown(pattern)}", {"start": start, "end": end})

    return Judging(judge, "BOOLEAN")


def _compiled(pattern: str, *, ignore_case: bool) -> Any:
    re2 = imported("re2")
    options = re2.Options()
    options.max_mem, options.log_errors, options.case_sensitive = _MAX_BYTES, False, not ignore_case
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        told = error.args[0]
        raise SettingError(f"is no pattern of RE2's: {told.decode() if isinstance(told, bytes) else told}") from None


KIND = Kind("regex", 1, read)
