"""Reports of experiments: what came out, which items failed and why, what got worse, and what the figures can't say.

Pure functions from the contract's messages: nothing is asked, nothing is written. A `Report` is a run with its items,
and, where there is one, the comparison with its baseline; each format shows the same findings.
"""

from lodestream.reports._gate import Check, GateRule, GateVerdict, Outcome, Threshold, judge
from lodestream.reports._markdown import as_markdown
from lodestream.reports._report import Report
from lodestream.reports._text import as_text

__all__ = [
    "Check",
    "GateRule",
    "GateVerdict",
    "Outcome",
    "Report",
    "Threshold",
    "as_markdown",
    "as_text",
    "judge",
]
