"""Holm's correction: of many tests some show a difference by chance."""

from collections.abc import Sequence

from statsmodels.stats.multitest import multipletests

from services.read.query.experiments.statistics.finding import Finding


def adjusted(tests: Sequence[Finding]) -> list[float | None]:
    """Each test's p-value after Holm (1979) over all of them.

    Tests in which no item differs are not counted: their p is 1 whatever happens, so they take no chance of being wrong
    (Tarone 1990), and a metric that is the same in all runs costs the others nothing.
    """
    counted = [n for n, finding in enumerate(tests) if finding.p_value is not None and finding.informative]
    answer = [finding.p_value for finding in tests]
    if counted:
        _, corrected, *_ = multipletests([answer[n] for n in counted], method="holm")
        for n, p_value in zip(counted, corrected, strict=True):
            answer[n] = float(p_value)
    return answer
