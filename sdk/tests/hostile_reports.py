"""Reports of runs whose every text means harm."""

from lodestream.reports import Check, GateVerdict, Outcome, Report
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import ItemEvaluation

from sdk.tests.experiments import BASELINE, boolean, changed, compared, made_item, made_run, numeric, summed_up, worse

HOSTILE = (
    "\x1b[2J\x00\u202e\ufffe</pre></style><script src=https://evil.example/x.js>alert(1)</script> | `x` ]]> @all \"'&"
)


def regressed() -> Report:
    """Items 1 and 2 lost what the baseline had."""
    before = [
        made_item(n, boolean(True, comment="as it should"), run_id=BASELINE, trace=f"{n:02}" * 16) for n in (1, 2, 3)
    ]
    after = [made_item(n, boolean(n == 3, comment="says 30 days"), output="30 days") for n in (1, 2, 3)]
    run, baseline = summed_up(made_run(), after), summed_up(made_run(BASELINE, "answer 3"), before)
    items = [changed(n, pb.ITEM_CHANGE_REGRESSED) for n in (1, 2)]
    return Report(run, [*after, *before], compared(worse(), run=run, baseline=baseline, items=items))


def hostile() -> list[Report]:
    """By itself, and compared and gated."""
    judged = (boolean(False, HOSTILE, HOSTILE), numeric(0.5), ItemEvaluation(name="tone", categorical=HOSTILE))
    after = [
        made_item(1, *judged, input=HOSTILE, output=HOSTILE, expected=HOSTILE, metadata={HOSTILE: HOSTILE}),
        made_item(2, error=HOSTILE),
        made_item(3, boolean(True, HOSTILE), numeric(0.7), item_id=HOSTILE, metadata={HOSTILE: "b"}),
    ]
    before = [made_item(n, boolean(True, HOSTILE), numeric(0.9), run_id=BASELINE, output=HOSTILE) for n in (1, 2)]
    run, baseline = summed_up(made_run(name=HOSTILE), after[2:]), summed_up(made_run(BASELINE, HOSTILE), before)
    run.dataset_name = run.reason = run.request.description = run.request.author = HOSTILE
    run.run_evaluations.add(name=HOSTILE, categorical=HOSTILE, comment=HOSTILE)
    comparison = compared(
        worse(HOSTILE), worse("similarity"), run=run, baseline=baseline, warnings=[HOSTILE],
        items=[changed(n, pb.ITEM_CHANGE_REGRESSED, HOSTILE, run_error=HOSTILE) for n in (1, 2)],
        segments=[pb.SegmentComparison(run_id=run.request.run_id, metric=HOSTILE, key=HOSTILE, value=HOSTILE, pairs=2,
                                       baseline_mean=0.9, run_mean=0.1)],
    )  # fmt: skip
    comparison.metrics[0].summary = HOSTILE
    gate = GateVerdict((Check(HOSTILE, HOSTILE, Outcome.FAILED, HOSTILE),))
    return [Report(run, after), Report(run, [*after, *before], comparison, gate, trace_url="javascript:alert(1)")]
