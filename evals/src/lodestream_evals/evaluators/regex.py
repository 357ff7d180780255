"""Whether the output matches a pattern of RE2's: in time that grows with the text's length, whatever the pattern."""

from typing import Any

from lodestream_evals.evaluators._errors import SettingError
from lodestream_evals.evaluators._evaluator import Case, Judging, Kind, Tools, Verdict
from lodestream_evals.evaluators._settings import imported, path_setting, shown, text_of
from lodestream_evals.evaluators._spec import Spec

_MAX_PATTERN = 10_000
_MAX_BYTES = 8 * 1024 * 1024  # of a compiled pattern and its automaton


def read(spec: Spec) -> Judging:
    """Settings: `pattern`, `full` (the whole text, not a part), `ignore_case`, `negate`, `field`."""
    path = path_setting(spec)
    pattern = spec.text("pattern", most=_MAX_PATTERN)
    full, ignore_case, negate = spec.flag("full"), spec.flag("ignore_case"), spec.flag("negate")
    compiled = spec.built("pattern", lambda: _compiled(pattern, ignore_case=ignore_case))

    def judge(case: Case, _: Tools) -> Verdict:
        field = path.of(case)
        if field.missing:
            return Verdict(False, field.missing)
        text = text_of(field.value)
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
        message = error.args[0]
        raise SettingError(
            f"is no pattern of RE2's: {message.decode() if isinstance(message, bytes) else message}"
        ) from None


KIND = Kind("regex", 1, read)
