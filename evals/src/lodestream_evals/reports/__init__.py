"""Reports of experiments: what came out, which items failed and why, what got worse, and what the figures can't say.

Pure functions from the contract's messages: they call nothing and write nothing. A `Report` is a run with its items,
and, where there is one, the comparison with its baseline; each format shows the same findings.
"""

from lodestream_evals.reports._findings import Report
from lodestream_evals.reports._gate import Check, GateRule, GateVerdict, Outcome, Threshold, judge
from lodestream_evals.reports._html.page import as_html
from lodestream_evals.reports._json import as_json
from lodestream_evals.reports._junit import as_junit
from lodestream_evals.reports._markdown import as_markdown
from lodestream_evals.reports._text import as_text

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
