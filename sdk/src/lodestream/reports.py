"""Reports of experiments: what came out, which items failed and why, what got worse, and what the figures can't say.

Pure functions from the contract's messages: they call nothing and write nothing. A `Report` is a run with its items,
and, where there is one, the comparison with its baseline; each format shows the same findings.
"""

from lodestream_evals.reports import (
    Check,
    GateRule,
    GateVerdict,
    Outcome,
    Report,
    Threshold,
    as_html,
    as_json,
    as_junit,
    as_markdown,
    as_text,
    judge,
)

__all__ = [
    "Check",
    "GateRule",
    "GateVerdict",
    "Outcome",
    "Report",
    "Threshold",
    "as_html",
    "as_json",
    "as_junit",
    "as_markdown",
    "as_text",
    "judge",
]
