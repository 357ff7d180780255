"""Why an experiment could not be run, or its result is not good enough."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lodestream._results import ExperimentResult


class ExperimentError(Exception):
    """What all of them are, but for RegressionError."""


class ExperimentNotFoundError(ExperimentError, LookupError):
    """The project has no such run."""


class ExperimentUnavailableError(ExperimentError, RuntimeError):
    """The server could not be asked. Nothing was run."""


class ExperimentRefusedError(ExperimentError, ValueError):
    """What was asked for makes no sense, or the run's name belongs to another run. The message says which."""


class ExperimentStoppedError(ExperimentError):
    """The run was ended by somebody else before it was complete. `result` is what was done; it is recorded."""

    def __init__(self, message: str, result: "ExperimentResult") -> None:
        super().__init__(message)
        self.result = result


class RegressionError(AssertionError):
    """The result is not good enough. Raised by a run evaluator, `run_experiment` raises it when all is recorded."""

    def __init__(
        self,
        message: str = "",
        *,
        metric: str | None = None,
        value: float | None = None,
        threshold: float | None = None,
        baseline: float | None = None,
        result: "ExperimentResult | None" = None,
    ) -> None:
        """`threshold` is what the value had to reach, `baseline` what it was before."""
        self.metric, self.value, self.threshold, self.baseline, self.result = metric, value, threshold, baseline, result
        super().__init__(message or self._in_words())

    def _in_words(self) -> str:
        text = f"{self.metric or 'the result'}"
        if self.value is not None:
            text += f" is {self.value:g}"
        if self.threshold is not None:
            text += f", {self.threshold:g} is asked for"
        if self.baseline is not None:
            text += f", {self.baseline:g} it was before"
        return text if text != "the result" else "the result is not good enough"
