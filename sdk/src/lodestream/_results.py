"""What an experiment can be told, and what came of it."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from lodestream_evals.evaluation import Evaluation
from lodestream_evals.lenient_json import to_json

from lodestream._receipts import FlushReceipt

if TYPE_CHECKING:
    import os

    from lodestream_evals.evaluators import Tools
    from lodestream_evals.reports import Report
    from lodestream_proto.v1.experiments_pb2 import CompareExperimentsResponse


_SUFFIXES = {
    ".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".xml": "junit", ".json": "json",
    ".txt": "text",
}  # fmt: skip


class ExperimentOptions(TypedDict, total=False):
    """Everything that can be said of an experiment beside its name, its data and its task."""

    run_name: str | None
    """Asked for again under the same name, a run goes on where it stopped. Default: the name and the time."""
    description: str | None
    evaluators: Sequence[Any]
    """Functions, objects of `lodestream.evaluators`, or their specs."""
    composite_evaluator: Callable[..., Any] | None
    """Like an evaluator; `evaluations` are those that the others said."""
    run_evaluators: Sequence[Any]
    """Evaluate the run as a whole; `item_results` are all of it. A RegressionError of theirs is raised at the end."""
    max_concurrency: int
    """Items at the same time; default 50."""
    repetitions: int
    """How often each item is run, up to 100; default 1."""
    metadata: Any
    item_timeout: float | None
    """Seconds that the task may take for an item, and an evaluator; default: as long as it takes."""
    progress: bool | None
    """Whether to show it on standard error; default: where somebody looks."""
    tools: "Tools | None"
    """What built-in evaluators may use of the outside world: models. Prompts are the client's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorOutcome:
    """What an evaluator said under one name: an evaluation, or that it failed."""

    name: str
    evaluation: Evaluation | None = None
    error: str = ""
    revision: str = ""
    score_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """What came of one item, in one repetition."""

    item: Any
    """What the program gave, or the dataset's item."""
    item_id: str
    repetition: int = 0
    input: Any = None
    expected_output: Any = None
    metadata: Any = None
    output: Any = None
    """What the task returned; in a run that was gone on with, as JSON brought it back."""
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
        """The evaluations of the evaluators that did not fail."""
        return [each.evaluation for each in self.judgements if each.evaluation is not None]

    @property
    def evaluation_errors(self) -> dict[str, str]:
        """The reasons of the evaluators that failed, by their names."""
        return {each.name: each.error for each in self.judgements if each.error}

    def value(self, name: str) -> bool | float | str | None:
        """Return the value of an evaluation.

        Args:
            name: The evaluation's name.

        Returns:
            The value; None where there is none of that name.
        """
        return next((each.value for each in self.evaluations if each.name == name), None)


class Reporter(Protocol):
    """Makes reports of a result, and compares it with others."""

    def report(self, result: "ExperimentResult", comparison: "CompareExperimentsResponse | None", /) -> "Report": ...
    def compare(
        self, result: "ExperimentResult", baseline: str, options: Mapping[str, Any], /
    ) -> "CompareExperimentsResponse": ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResult:
    """All of a run, items that were done before it was gone on with included."""

    name: str
    run_name: str
    run_id: str
    items: Sequence[ItemResult]
    """The items' results by repetition, in the order of the data."""
    run_judgements: Sequence[EvaluatorOutcome] = ()
    recorded: bool = True
    """False: there is no server, all is here only."""
    receipt: FlushReceipt = field(default_factory=FlushReceipt)
    """Whether all of it is delivered, or what is still on its way."""
    _reporter: "Reporter" = field(repr=False, compare=False)

    @property
    def item_results(self) -> Sequence[ItemResult]:
        """The items, by the name that they have elsewhere."""
        return self.items

    @property
    def run_evaluations(self) -> list[Evaluation]:
        """The evaluations of the run as a whole."""
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
        """Return the mean of the numbers and booleans (true is 1) that evaluations of a name have.

        Args:
            name: The evaluations' name.

        Returns:
            The mean over all items; None where there is no such number.
        """
        values = [float(value) for item in self.items if isinstance(value := item.value(name), int | float)]
        return sum(values) / len(values) if values else None

    # --- Reports ------------------------------------------------------------------------------------------------------

    def report(self, comparison: "CompareExperimentsResponse | None" = None) -> "Report":
        """Return the data that `lodestream.reports` makes its formats of, masked like what is sent.

        Args:
            comparison: What `compare` returned, to be shown with it. Default: none.
        """
        return self._reporter.report(self, comparison)

    def format(self, *, include_item_results: bool = False) -> str:
        """Return a summary for a terminal.

        Args:
            include_item_results: Also show each item.
        """
        lines = [self._formatted("text", None).rstrip("\n")]
        if include_item_results:
            lines += ["", *(line for item in self.items for line in _item_lines(item))]
        if not self.recorded:
            lines.append("There is no server: these results are in this process only.")
        elif self.receipt.pending:
            lines.append(f"{self.receipt.pending} records are not delivered yet: {self.receipt.problem}")
        elif self.receipt.dropped:
            lines.append(f"{self.receipt.dropped} records of this process were lost; the log says why.")
        return "\n".join(lines)

    def to_markdown(self, comparison: "CompareExperimentsResponse | None" = None) -> str:
        """Return a report in Markdown, for people.

        Args:
            comparison: What `compare` returned, to be shown with it. Default: none.
        """
        return self._formatted("markdown", comparison)

    def to_html(self, comparison: "CompareExperimentsResponse | None" = None) -> str:
        """Return a report as one HTML page that needs nothing else.

        Args:
            comparison: What `compare` returned, to be shown with it. Default: none.
        """
        return self._formatted("html", comparison)

    def to_junit(self, comparison: "CompareExperimentsResponse | None" = None) -> str:
        """Return a report in JUnit's XML, for CI.

        Args:
            comparison: What `compare` returned, to be shown with it. Default: none.
        """
        return self._formatted("junit", comparison)

    def to_json(self, comparison: "CompareExperimentsResponse | None" = None) -> str:
        """Return a report in JSON, for programs.

        Args:
            comparison: What `compare` returned, to be shown with it. Default: none.
        """
        return self._formatted("json", comparison)

    def save(self, path: "str | os.PathLike[str]", comparison: "CompareExperimentsResponse | None" = None) -> Path:
        """Write a report, in the format that the suffix names: .md, .html, .xml (JUnit), .json or .txt.

        Args:
            path: The file. Folders that are missing are made.
            comparison: What `compare` returned, to be shown with it. Default: none.

        Returns:
            The path.

        Raises:
            ValueError: The suffix names no format.
            OSError: It can't be written.
        """
        path = Path(path)
        kind = _SUFFIXES.get(path.suffix.lower())
        if kind is None:
            raise ValueError(f"{path.name}: a report's name ends with {', '.join(_SUFFIXES)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._formatted(kind, comparison), encoding="utf-8")
        return path

    def compare(self, baseline: "ExperimentResult | str", **options: Any) -> "CompareExperimentsResponse":
        """Ask the server whether this run is better than another, with statistics.

        Args:
            baseline: A result, the name of a run over the same dataset, or a run's id.
            **options: Further fields of the CompareExperimentsRequest: metrics, confidence, lower_is_better,
                segment_by, seed.

        Returns:
            The server's comparison.

        Raises:
            ExperimentNotFoundError: There is no such baseline.
            ExperimentRefusedError: An option makes no sense.
            ExperimentUnavailableError: The run is in this process only, or the server can't be reached.
        """
        return self._reporter.compare(self, baseline if isinstance(baseline, str) else baseline.run_id, options)

    def _formatted(self, kind: str, comparison: "CompareExperimentsResponse | None") -> str:
        from lodestream import reports

        write: Callable[[Report], str] = getattr(reports, f"as_{kind}")
        return write(self.report(comparison))


def _item_lines(item: ItemResult) -> list[str]:
    head = f"{item.item_id[:8]}" + (f" #{item.repetition}" if item.repetition else "")
    outcome = f"error: {item.error}" if item.error else f"output: {_short(item.output)}"
    lines = [f"{head}  input: {_short(item.input)}", f"          {outcome}  ({item.latency:.2f} s)"]
    for each in item.judgements:
        text = each.error if each.evaluation is None else each.evaluation.value
        why = f"  {each.evaluation.comment}" if each.evaluation is not None and each.evaluation.comment else ""
        lines.append(f"          {each.name}: {text}{why}")
    return lines


def _short(value: object) -> str:
    text = value if isinstance(value, str) else to_json(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
