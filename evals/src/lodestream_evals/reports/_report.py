"""What a report is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from lodestream_proto.v1.experiments_pb2 import CompareExperimentsResponse, ExperimentItem, ExperimentRun

from lodestream_evals.reports._gate import GateVerdict


@dataclass(frozen=True, slots=True)
class Report:
    """A run, its finished items, and what it is compared with."""

    run: ExperimentRun
    items: Sequence[ExperimentItem] = ()
    """Of the run; also of the runs in the comparison, which `run_id` tells apart, so that outputs can be shown side by
    side. With the dataset's item of each (`with_dataset_items`), inputs and segments are shown too."""
    comparison: CompareExperimentsResponse | None = None
    """With the run as one of the candidates."""
    gate: GateVerdict | None = None
    confidence: float = 0.95
    """That the comparison was asked for with."""
    trace_url: str = ""
    """Where people look at a trace: an http(s) address with {trace_id} in it."""
