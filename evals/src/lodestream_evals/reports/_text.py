"""The report for a terminal."""

from lodestream_evals.reports._findings import Report, findings

_NARROWEST = 40


def as_text(report: Report, *, width: int = 100, color: bool = False) -> str:
    """The report in lines of at most `width` cells (40 at least); with `color`, for a terminal that shows colours.

    Raises ImportError without the extra `lodestream[experiments]`.
    """
    try:
        from lodestream_evals.reports._terminal import drawn
    except ImportError as error:
        raise ImportError("reports as text need rich: pip install 'lodestream[experiments]'") from error
    return drawn(findings(report), width=max(width, _NARROWEST), color=color)
