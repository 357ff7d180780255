"""What came of an experiment."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lodestream._evaluation import Evaluation
from lodestream._receipts import FlushReceipt

if TYPE_CHECKING:
    import os

    from lodestream_proto.v1.experiments_pb2 import CompareExperimentsResponse

    from lodestream._experiments.runs import Run
    from lodestream.reports import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorOutcome:
    """What one judge said under one name: an evaluation, or that it failed."""

    name: str
    evaluation: Evaluation | None = None
    error: str = ""
    revision: str = ""
    score_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """What came of one item, in one repetition."""

    item: Any
    """As the program gave it, or the dataset's item."""
    item_id: str
    repetition: int = 0
    input: Any = None
    expected_output: Any = None
    metadata: Any = None
    output: Any = None
    """As the task returned it; of a run that was gone on with, as JSON brought it back."""
    error: str = ""
    """Why the task failed; empty when it did not."""
    judgements: Sequence[EvaluatorOutcome] = ()
    """What was said of it, evaluators that failed included."""
    trace_id: str = ""
    """32 hex digits; empty where traces are not kept."""
    started_at: dt.datetime
    latency: float
    """Seconds that the task took."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    """None where it is not known."""

    @property
    def evaluations(self) -> list[Evaluation]:
        """By those evaluators that did not fail."""
        return [each.evaluation for each in self.judgements if each.evaluation is not None]

    @property
    def evaluation_errors(self) -> dict[str, str]:
        """By the names of the evaluators that failed."""
        return {each.name: each.error for each in self.judgements if each.error}

    def value(self, name: str) -> bool | float | str | None:
        """Of the evaluation of that name; None where there is none."""
        return next((each.value for each in self.evaluations if each.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResult:
    """All of a run, items that were done before it was gone on with included."""

    name: str
    run_name: str
    run_id: str
    items: Sequence[ItemResult]
    """By repetition, in the order of the data."""
    run_judgements: Sequence[EvaluatorOutcome] = ()
    recorded: bool = True
    """False: there is no server, all is here only."""
    receipt: FlushReceipt = field(default_factory=FlushReceipt)
    """Of what the process had to tell: complete, or what is still on its way."""
    run: "Run" = field(repr=False, compare=False)

    @property
    def item_results(self) -> Sequence[ItemResult]:
        """The items, by the name that they have elsewhere."""
        return self.items

    @property
    def run_evaluations(self) -> list[Evaluation]:
        """Of the run as a whole."""
        return [each.evaluation for each in self.run_judgements if each.evaluation is not None]

    @property
    def failed(self) -> list[ItemResult]:
        """The items whose task failed."""
        return [item for item in self.items if item.error]

    def __iter__(self) -> Iterator[ItemResult]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def mean(self, name: str) -> float | None:
        """Of the numbers and truths (true is 1) of that name; None where there is none."""
        values = [float(value) for item in self.items if isinstance(value := item.value(name), int | float)]
        return sum(values) / len(values) if values else None

    # --- Reports ------------------------------------------------------------------------------------------------------

    def report(self, comparison: "CompareExperimentsResponse | None" = None) -> "Report":
        """What `lodestream.reports` makes its formats of."""
        from lodestream._experiments.reporting import report_of

        return report_of(self, comparison)

    def format(self, *, include_item_results: bool = False) -> str:
        """For a terminal; with each item if asked for."""
        from lodestream._experiments.reporting import as_lines

        return as_lines(self, include_item_results=include_item_results)

    def to_markdown(self, comparison: "CompareExperimentsResponse | None" = None) -> str:
        """For people; with what `compare` gave, also that."""
        return self._formatted("markdown", comparison)

    def to_html(self, comparison: "CompareExperimentsResponse | None" = None) -> str:
        """A page that needs nothing else."""
        return self._formatted("html", comparison)

    def to_junit(self, comparison: "CompareExperimentsResponse | None" = None) -> str:
        """For the test reports of CI."""
        return self._formatted("junit", comparison)

    def to_json(self, comparison: "CompareExperimentsResponse | None" = None) -> str:
        """For programs."""
        return self._formatted("json", comparison)

    def save(self, path: "str | os.PathLike[str]", comparison: "CompareExperimentsResponse | None" = None) -> Path:
        """Write it in the format that the suffix names: .md, .html, .xml (JUnit), .json or .txt."""
        from lodestream._experiments.reporting import saved

        return saved(self, Path(path), comparison)

    def compare(self, baseline: "ExperimentResult | str", **options: Any) -> "CompareExperimentsResponse":
        """Is this run better than that one, and by how much? By the server, with statistics.

        The baseline is a result, the name of a run over the same dataset, or a run's id.

        `options` are those of its CompareExperimentsRequest: metrics, confidence, lower_is_better, segment_by, seed.
        Raises ExperimentError.
        """
        from lodestream._experiments.comparing import compare

        return compare(self, baseline if isinstance(baseline, str) else baseline.run_id, options)

    def _formatted(self, kind: str, comparison: "CompareExperimentsResponse | None") -> str:
        from lodestream._experiments.reporting import formatted

        return formatted(self, kind, comparison)
