"""The answer, from what was read. Slow to import, and it takes as long as the runs are large: for a thread."""

from collections.abc import Sequence
from itertools import islice

from lodestream_proto.v1.experiments_pb2 import CompareExperimentsResponse, ExperimentRun

from services.read.query.experiments.comparing.asked import Asked
from services.read.query.experiments.comparing.cautions import cautions_of_metrics, cautions_of_runs
from services.read.query.experiments.comparing.changed_items import changed_items
from services.read.query.experiments.comparing.metrics import metrics_to_compare, values_of
from services.read.query.experiments.comparing.reading import RunRead, metadata_of
from services.read.query.experiments.statistics.comparison import compare
from services.read.query.experiments.statistics.finding import Rules
from services.read.query.experiments.statistics.segments import keys_to_look_by, segments

_MOST_SEGMENTS = 5_000


def answer(asked: Asked, runs: Sequence[ExperimentRun], read: Sequence[RunRead]) -> CompareExperimentsResponse:
    """Everything but how fresh it is. The baseline comes first in `runs` and in `read`."""
    rules = Rules(confidence=asked.confidence, seed=asked.seed)
    values = [values_of(each) for each in read]
    baseline, *candidates = [each.run for each in values]
    compared = compare(baseline, candidates, metrics_to_compare(asked, [baseline, *candidates]), rules)
    by_run = {each.run.run_id: each.run.values for each in values}
    items, left_out = changed_items(compared, {each.run_id: each for each in read}, read[0], by_run)
    metadata = {item: metadata_of(known) for item, known in read[0].dataset_items.items() if item in read[0].items}
    keys, in_vain = keys_to_look_by(metadata, asked.segment_by)
    by_segment = list(islice(segments(compared, metadata, keys), _MOST_SEGMENTS + 1))
    cautions = [*cautions_of_runs(runs, read, values), *cautions_of_metrics(compared, rules), *in_vain]
    if left_out:
        cautions.append(f"{left_out:,} changed items are not listed: those that differ least, metric by metric")
    if len(by_segment) > _MOST_SEGMENTS:
        cautions.append(f"only the first {_MOST_SEGMENTS:,} segments are listed; ask for fewer metrics or runs")
    return CompareExperimentsResponse(
        baseline=runs[0],
        runs=runs[1:],
        metrics=[each.said for each in compared],
        items=items,
        segments=by_segment[:_MOST_SEGMENTS],
        warnings=dict.fromkeys(cautions),
    )
